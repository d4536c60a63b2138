"""Preprocessing and softmax as nodes around an exported network: pixels in, probabilities out.

The resize is two matrix products with the rows of a triangle filter, computed in the graph from
the image's own size. It means the same in every runtime, which ONNX's ``Resize`` with antialias
does not: OpenVINO, OpenCV, MNN and TVM ignore the attribute, TensorRT refuses it. The same
formula in numpy is ``data.preprocess.resize_weights``.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from vgg_deploy.data.preprocess import affine
from vgg_deploy.errors import UsageError, unknown_choice
from vgg_deploy.spec import ModelCard, Preprocessing

if TYPE_CHECKING:
    import onnx_ir as ir
    from onnx_ir.tape import Tape

Resize = Literal["portable", "native", "none"]
RESIZES: tuple[Resize, ...] = get_args(Resize)
METADATA_KEY = "vgg_deploy.embedded"
IMAGE, PROBABILITIES, LOGITS = "image", "probabilities", "logits"
TOP_SCORES, TOP_INDICES = "top_scores", "top_indices"
_BASE = 32  # of the long division in the graph


@dataclass(frozen=True, kw_only=True)
class EmbeddedOptions:
    """Choices that shape an embedded file.

    ``resize``: ``portable`` is two matrix products and right in every runtime; ``native`` is
    ONNX's ``Resize`` with antialias, right in ONNX Runtime only; ``none`` takes images that
    already have the network's size. ``topk`` adds outputs with the best classes; 0 adds none.
    """

    resize: Resize = "portable"
    topk: int = 0

    def __post_init__(self) -> None:
        if self.topk < 0:
            raise UsageError(f"--topk {self.topk} is below 0", "use 0 for none, or a number")

    def require_fit(self, card: ModelCard) -> None:
        """Raise ``UsageError`` where the model has fewer classes than are asked for."""
        if self.topk > card.spec.classes:
            raise UsageError(
                f"--topk {self.topk} of {card.spec.classes} classes", "use a smaller number"
            )


def resize_of(text: str) -> Resize:
    """A resize's name, or ``UsageError`` with the nearest one."""
    if text not in RESIZES:
        raise unknown_choice("resize", text, RESIZES)
    return text


def bake(model: ir.Model, card: ModelCard, options: EmbeddedOptions) -> None:
    """Turn an exported network (normalised floats in, logits out) into an embedded one, in place.

    Input ``image`` uint8 ``[N, H, W, C]``; outputs ``probabilities`` and ``logits`` float32
    ``[N, classes]``; with ``topk`` also ``top_scores`` float32 and ``top_indices`` int64
    ``[N, K]``. The network's nodes are untouched. Raises ``UsageError`` for more than its classes.
    """
    import onnx_ir as ir
    from onnx_ir.tape import Tape

    graph = model.graph
    (given,), (logits,) = graph.inputs, graph.outputs
    p, classes = card.preprocessing, card.spec.classes
    options.require_fit(card)
    tape = Tape()
    build = _Builder(tape)
    side: tuple[int | str, int | str] = ("height", "width")
    if options.resize == "none":
        side = (p.size, p.size)
    image = ir.val(IMAGE, ir.DataType.UINT8, ("batch", *side, p.channels))
    ready = _preprocessed(build, image, p, options.resize)
    if given.dtype not in (None, ir.DataType.FLOAT):
        ready = build.op("Cast", ready, to=int(given.dtype))
    ir.convenience.replace_all_uses_with(given, ready)
    graph.inputs[0] = image
    before = list(tape.nodes)
    after = Tape()
    graph.outputs[:] = _outputs(_Builder(after, build.constants), logits, classes, options)
    for constant in build.constants.values():
        graph.register_initializer(constant)
    graph.insert_before(graph[0], before)
    graph.extend(after.nodes)
    model.metadata_props[METADATA_KEY] = json.dumps(asdict(options), sort_keys=True)


class _Builder:
    """Nodes with names of their own, and constants that are made once per value."""

    def __init__(self, tape: Tape, constants: dict[str, ir.Value] | None = None) -> None:
        self._tape = tape
        self.constants: dict[str, ir.Value] = {} if constants is None else constants

    def op(self, kind: str, *inputs: ir.Value, **attributes: int | str | list[int]) -> ir.Value:
        value = self._tape.op(kind, inputs, attributes)
        node = self.last
        stem = "embed" if kind not in ("Softmax", "TopK") else "result"
        node.name = value.name = f"{stem}_{len(self._tape.nodes)}_{kind.lower()}"
        return value

    @property
    def last(self) -> ir.Node:
        return self._tape.nodes[-1]

    def constant(self, value: object, dtype: type[np.generic] = np.float32) -> ir.Value:
        import onnx_ir as ir

        array = np.asarray(value, dtype)
        key = f"{array.dtype}{array.shape}{array.tobytes().hex()}"
        if key not in self.constants:
            name = f"embed_constant_{len(self.constants)}"
            tensor = ir.tensor(array, name=name)
            self.constants[key] = ir.Value(
                name=name,
                shape=ir.Shape(array.shape),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
        return self.constants[key]


def _preprocessed(b: _Builder, image: ir.Value, p: Preprocessing, resize: Resize) -> ir.Value:
    """Float32 ``[N, C, size, size]``, normalised."""
    import onnx_ir as ir

    # Cast first: TensorRT transposes no uint8, and resizing integers would truncate.
    pixels = b.op("Cast", image, to=int(ir.DataType.FLOAT))
    x = b.op("Transpose", pixels, perm=[0, 3, 1, 2])
    scale, offset = affine(p)
    factor = b.constant(scale[:, None, None])
    if resize == "portable":
        height, width = _side(b, x, 2), _side(b, x, 3)
        x = _portable(b, x, height, width, p)
        # Sums over no pixels are 0, and a network has an answer to that: 0 / 0 makes it NaN.
        area = b.op("Mul", height, width)
        factor = b.op("Mul", factor, b.op("Div", area, area))
    elif resize == "native":
        x = _native(b, x, p)
    x = b.op("Mul", x, factor)
    return b.op("Add", x, b.constant(offset[:, None, None]))


def _portable(
    b: _Builder, x: ir.Value, height: ir.Value, width: ir.Value, p: Preprocessing
) -> ir.Value:
    rows = _weights(b, height, _resized(b, height, width, p), p.size, transposed=False)
    columns = _weights(b, width, _resized(b, width, height, p), p.size, transposed=True)
    return b.op("MatMul", b.op("MatMul", rows, x), columns)


def _side(b: _Builder, x: ir.Value, axis: int) -> ir.Value:
    """One side of an image in pixels: a float32 scalar."""
    import onnx_ir as ir

    side = b.op("Gather", b.op("Shape", x), b.constant(axis, np.int64), axis=0)
    return b.op("Cast", side, to=int(ir.DataType.FLOAT))


def _resized(b: _Builder, side: ir.Value, other: ir.Value, p: Preprocessing) -> ir.Value:
    """What ``side`` becomes before the crop: floor(``p.resize`` * side / shorter side).

    Long division, one digit of ``p.resize`` after the other, so that every number stays below
    2^20 and is exact for sides up to 16,384.
    """
    if p.resize is None:
        return b.constant(p.size)
    short, base = b.op("Min", side, other), b.constant(_BASE)
    first, *others = _digits(p.resize)
    whole, rest = _divided(b, b.op("Mul", side, b.constant(first)), short)
    for digit in others:
        next_part = b.op("Add", b.op("Mul", rest, base), b.op("Mul", side, b.constant(digit)))
        step, rest = _divided(b, next_part, short)
        whole = b.op("Add", b.op("Mul", whole, base), step)
    return whole


def _divided(b: _Builder, part: ir.Value, by: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Quotient and remainder of whole numbers.

    The half keeps the quotient away from whole numbers: OpenVINO divides by multiplying with the
    reciprocal, and 64 * 47 * (1 / 47) is less than 64.
    """
    step = b.op("Floor", b.op("Div", b.op("Add", part, b.constant(0.5)), by))
    return step, b.op("Sub", part, b.op("Mul", step, by))


def _digits(number: int) -> list[int]:
    """In base ``_BASE``, the highest first."""
    higher, lowest = divmod(number, _BASE)
    return [*(_digits(higher) if higher else ()), lowest]


def _weights(
    b: _Builder, n_in: ir.Value, n_out: ir.Value, crop: int, *, transposed: bool
) -> ir.Value:
    """``resize_weights`` of the rows that survive the centre crop: ``[crop, n_in]`` or its T."""
    # With j of n_out and i of n_in pixels, the distance of their centres, times 2 n_out, is
    # |(2j + 1) n_in - (2i + 1) n_out|: whole numbers, exact in float32 below 2^24.
    wanted = b.constant((2 * np.arange(crop) + 1).reshape((1, -1) if transposed else (-1, 1)))
    if n_out.const_value is None:
        gap = b.op("Mul", b.op("Sub", n_out, b.constant(crop)), b.constant(0.5))
        start = b.op("Round", gap)  # half to even, as torchvision
        wanted = b.op("Add", wanted, b.op("Add", start, start))
    twice = b.op("Mul", n_in, b.constant(2))
    pixels = b.op("Range", b.constant(1), twice, b.constant(2))
    if transposed:
        pixels = b.op("Unsqueeze", pixels, b.constant([1], np.int64))
    apart = b.op("Abs", b.op("Sub", b.op("Mul", wanted, n_in), b.op("Mul", pixels, n_out)))
    # Upscaling keeps the triangle's reach of one pixel, downscaling widens it.
    reach = b.op("Mul", b.op("Max", n_in, n_out), b.constant(2))
    triangle = b.op("Relu", b.op("Sub", b.constant(1), b.op("Div", apart, reach)))
    axis = b.constant([0 if transposed else 1], np.int64)
    return b.op("Div", triangle, b.op("ReduceSum", triangle, axis, keepdims=1))


def _native(b: _Builder, x: ir.Value, p: Preprocessing) -> ir.Value:
    """ONNX's own ``Resize``; the crop is a ``Slice`` after it."""
    import onnx_ir as ir

    height, width = _side(b, x, 2), _side(b, x, 3)
    sides = [_resized(b, height, width, p), _resized(b, width, height, p)]
    axis = b.constant([0], np.int64)
    sizes = b.op("Concat", *(b.op("Unsqueeze", side, axis) for side in sides), axis=0)
    whole = b.op("Cast", sizes, to=int(ir.DataType.INT64))
    lead = b.op("Slice", b.op("Shape", x), axis, b.constant([2], np.int64))
    target = b.op("Concat", lead, whole, axis=0)
    x = b.op(
        "Resize", x, None, None, target,  # type: ignore[arg-type]
        mode="linear", antialias=1, coordinate_transformation_mode="half_pixel",
        exclude_outside=1,  # as torch: what lies beyond the border has no weight
    )  # fmt: skip
    if p.resize is None:
        return x
    gap = b.op("Mul", b.op("Sub", sizes, b.constant(p.size)), b.constant(0.5))
    start = b.op("Cast", b.op("Round", gap), to=int(ir.DataType.INT64))
    end = b.op("Add", start, b.constant([p.size], np.int64))
    return b.op("Slice", x, start, end, b.constant([2, 3], np.int64))


def _outputs(
    b: _Builder, logits: ir.Value, classes: int, options: EmbeddedOptions
) -> list[ir.Value]:
    import onnx_ir as ir

    if logits.dtype not in (None, ir.DataType.FLOAT):
        logits.name = "network_logits"
        logits = b.op("Cast", logits, to=int(ir.DataType.FLOAT))
    logits.name = LOGITS
    probabilities = b.op("Softmax", logits, axis=1)
    probabilities.name = PROBABILITIES
    for value in (probabilities, logits):
        value.shape, value.type = (
            ir.Shape(("batch", classes)),
            ir.TensorType(ir.DataType.FLOAT),
        )
    if not options.topk:
        return [probabilities, logits]
    return [probabilities, logits, *_top(b, probabilities, options.topk)]


def _top(b: _Builder, probabilities: ir.Value, count: int) -> list[ir.Value]:
    """The ``count`` best classes, best first: their probabilities and their indices."""
    import onnx_ir as ir

    b.op("TopK", probabilities, b.constant([count], np.int64), axis=1)
    node = b.last
    node.resize_outputs(2)
    for value, name, dtype in zip(
        node.outputs, (TOP_SCORES, TOP_INDICES), (ir.DataType.FLOAT, ir.DataType.INT64), strict=True
    ):
        value.name, value.type = name, ir.TensorType(dtype)
        value.shape = ir.Shape(("batch", count))
    return list(node.outputs)
