"""``convert``: the fp32 ONNX of a bundle in another precision, kept when it is still valid."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

from vgg_deploy import jsonio
from vgg_deploy.artifact import Artifact, Precision
from vgg_deploy.bundle import Bundle
from vgg_deploy.data.fashion_mnist import found_as
from vgg_deploy.data.sources import is_folder
from vgg_deploy.environment import versions
from vgg_deploy.errors import RefusedInput, unknown_choice
from vgg_deploy.files import word
from vgg_deploy.manifest import Draft
from vgg_deploy.onnx_source import load_source
from vgg_deploy.precision import graph
from vgg_deploy.precision.calibration import (
    CalibrationSet,
    Done,
    batches,
    calibration_set,
    digest_of,
    has_own_data,
    source_of,
)
from vgg_deploy.precision.cast import check_range, to_half
from vgg_deploy.precision.graph import DIALECTS, layer_of, layers
from vgg_deploy.precision.observe import observe
from vgg_deploy.precision.options import CalibrationOptions
from vgg_deploy.precision.qdq import QuantizedPrecision
from vgg_deploy.precision.quantize import PASSES, quantize
from vgg_deploy.spec import ModelCard

if TYPE_CHECKING:
    import onnx

_TOOLS = ("vgg-deploy", "onnx", "onnxruntime", "onnxruntime-gpu")
Notes = dict[str, str]
Make = Callable[
    ["onnx.ModelProto", ModelCard, Callable[[], CalibrationSet], Done],
    "tuple[onnx.ModelProto, Notes]",
]


@dataclass(frozen=True, kw_only=True)
class Converter:
    """How a precision is made: ``make`` gets the fp32 model and may change it."""

    make: Make
    made_by: Mapping[str, str] = field(default_factory=dict)
    passes: int = 1  # over the calibration images; 0: it needs none
    any_images: bool = False  # the sample's will do where the model's own are unknown


def images_to_run(precision: Precision, options: CalibrationOptions | None = None) -> int:
    """How many images ``convert`` runs the network on, for who shows the progress."""
    return CONVERTERS[precision].passes * (options or CalibrationOptions()).count


def completed(
    bundle: Bundle, precision: Precision, options: CalibrationOptions
) -> CalibrationOptions:
    """``options`` with what they leave to the file that is there: of what, and how many images.

    Data that are the model's own are not taken over: they may be found by now, or found anew. The
    number belongs to the data: others may not have as many.
    """
    old = bundle.find("onnx", precision)
    made_by: Mapping[str, str] = old.made_by if old else {}
    data, own = made_by.get("calibration_wanted"), _own_data(bundle.card)
    same_data = options.names_nothing or (options.data or own) == data
    if options.names_nothing and data != own:
        options = replace(options, data=data)
    count = made_by.get("calibration_images", "")
    if options.images is None and same_data and count.isdecimal():
        options = replace(options, images=int(count))
    return options


def convert(
    bundle: Bundle,
    precision: Precision,
    options: CalibrationOptions | None = None,
    done: Done = lambda _: None,
) -> tuple[Bundle, Artifact, bool]:
    """Make ``model.<precision>.onnx`` from the bundle's fp32 ONNX, or keep a valid one.

    Returns the bundle, the artifact, and whether it was reused: it is, when its parent is the
    fp32 file, versions and options are equal and its digest holds. ``done`` is told of every few
    images that the network was run on.

    Raises ``UsageError`` (no such precision, nothing to calibrate with), ``RefusedInput`` (no
    fp32 ONNX, fp16 overflow), ``DigestMismatch`` and ``BackendNotAvailable`` (no onnxruntime).
    """
    if precision not in CONVERTERS:
        raise unknown_choice("precision", precision, ONNX_PRECISIONS)
    converter = CONVERTERS[precision]
    asked = options or CalibrationOptions()
    options = _with_data(converter, completed(bundle, precision, asked), bundle.card)
    taken_over = asked.names_nothing and options.data is not None
    source = bundle.find("onnx")
    if source is None:
        raise RefusedInput(
            f"{bundle.root} holds no fp32 ONNX to convert",
            f"make it: vgg-deploy export {word(bundle.root)} --format onnx",
        )
    bundle.check([source])
    images = cache(lambda: calibration_set(bundle.card, options))
    wanted = _made_by(precision, converter, options, bundle.card)
    of_folder = converter.passes and options.data and is_folder(options.data)
    if of_folder and not taken_over:  # it may hold others by now
        wanted["calibration_digest"] = digest_of(images())
    looks = converter.passes and not taken_over
    sources = _sources(options, bundle.card) if looks else ()
    if (valid := _valid(bundle, precision, source, wanted, sources)) is not None:
        return bundle, valid, True
    if of_folder:
        wanted["calibration_digest"] = digest_of(images())
    model = load_source(bundle.path(source), source)
    model, notes = converter.make(model, bundle.card, images, done)
    graph.finish(model, precision, wanted | notes)
    draft = Draft(
        format="onnx",
        precision=precision,
        input=source.input,
        output=source.output,
        parent=source.sha256,
        made_by=wanted | notes,
    )
    bundle, artifact = bundle.add(draft, lambda path: graph.write(model, path))
    return bundle, artifact, False


def _made_by(
    precision: Precision, converter: Converter, options: CalibrationOptions, card: ModelCard
) -> Notes:
    """Versions and options that shape the bytes and are known beforehand."""
    dialect = DIALECTS[precision]
    known = versions(*_TOOLS) | dict(converter.made_by)
    known |= {"opset": str(dialect.opset), "ir_version": str(dialect.ir_version)}
    if converter.passes:
        known |= {
            "calibration_images": str(options.count),
            "calibration_seed": str(options.seed),
            "calibration_preprocessing": jsonio.dumps(card.preprocessing, indent=None),
        }
    if converter.passes and (data := options.data or _own_data(card)):
        known["calibration_wanted"] = data
    return known


def _own_data(card: ModelCard) -> str | None:
    return card.dataset if has_own_data(card) else None


def _sources(options: CalibrationOptions, card: ModelCard) -> Collection[str]:
    """Where the images of a file that is kept may come from; of a folder its digest tells.

    Those that would be drawn from now, or the model's own, which may be absent by now. Where
    nothing is named now, whatever was named when the file was made; empty stands for any.
    """
    if is_folder(options.data) if options.data else not has_own_data(card):
        return ()
    named = source_of(card, options)
    found = {f"{found_as(named, options.data_dir)} train"}
    return found if options.data else found | {f"{card.dataset} train"}


def _valid(
    bundle: Bundle,
    precision: Precision,
    source: Artifact,
    wanted: Mapping[str, str],
    sources: Collection[str],
) -> Artifact | None:
    artifact = bundle.find("onnx", precision)
    if artifact is None or artifact.parent != source.sha256:
        return None
    made_by = {name: _SAME.get(value, value) for name, value in artifact.made_by.items()}
    if not wanted.items() <= made_by.items() or bundle.problem(artifact):
        return None
    if sources and artifact.made_by.get("calibration_data") not in sources:
        return None
    return artifact


def _fp16(
    model: onnx.ModelProto, card: ModelCard, drawn: Callable[[], CalibrationSet], done: Done
) -> tuple[onnx.ModelProto, Notes]:
    images = drawn()
    # ReLU, pooling and normalisation give nothing larger than what they get
    names = [model.graph.input[0].name, *(node.output[0] for node in layers(model))]
    seen = observe(model, names, batches(images.measured, card.preprocessing, done))
    largest = {name: histogram.largest for name, histogram in seen.items()}
    where = {name: layer_of(model, name) for name in names}
    top = check_range(largest, where)
    to_half(model, "fp16")
    notes = {"largest_activation": top, "calibration_data": images.source}
    part_of_it = (card.dataset, images.source) == ("fashion-mnist", "sample train")
    if images.source != f"{card.dataset} train" and not part_of_it:
        notes["range_measured_on"] = f"{images.source}, not known to be what it was trained on"
    return model, notes


def _bf16(
    model: onnx.ModelProto, _card: ModelCard, _drawn: Callable[[], CalibrationSet], _done: Done
) -> tuple[onnx.ModelProto, Notes]:
    to_half(model, "bf16")
    return model, {}


def _eight_bits(precision: QuantizedPrecision) -> Make:
    def make(
        model: onnx.ModelProto, card: ModelCard, drawn: Callable[[], CalibrationSet], done: Done
    ) -> tuple[onnx.ModelProto, Notes]:
        images = drawn()
        made, notes = quantize(model, precision, images, card.preprocessing, done)
        return made, notes | {"calibration_data": images.source}

    return make


def _with_data(
    converter: Converter, options: CalibrationOptions, card: ModelCard
) -> CalibrationOptions:
    """fp16's range can be looked at with any images where the model's own are unknown."""
    if not converter.any_images or options.data or has_own_data(card):
        return options
    return replace(options, data="sample" if options.data_dir is None else "fashion-mnist")


_SYMMETRIC = {
    "weights": "symmetric, one scale per output channel",
    "activations": "symmetric, one scale per tensor, on inputs of Conv and Gemm",
    "bias": "float32",
}
_INT8 = _SYMMETRIC | {
    "activations": "symmetric, one scale per tensor, on inputs of Conv and Gemm, and on their "
    "outputs that feed another through ReLU, max pooling and flatten alone"
}
_FP8 = _SYMMETRIC | {"needs": "onnxruntime with graph_optimization_level ORT_ENABLE_BASIC"}
_SAME = {  # what the same graph was called before
    "symmetric, one scale per tensor, on inputs and outputs of Conv and Gemm": _INT8["activations"]
}
CONVERTERS: Mapping[Precision, Converter] = {
    "fp16": Converter(make=_fp16, any_images=True),
    "bf16": Converter(make=_bf16, passes=0),
    "int8": Converter(make=_eight_bits("int8"), made_by=_INT8, passes=PASSES["int8"]),
    "fp8": Converter(make=_eight_bits("fp8"), made_by=_FP8, passes=PASSES["fp8"]),
}
ONNX_PRECISIONS: tuple[Precision, ...] = ("fp32", *CONVERTERS)
