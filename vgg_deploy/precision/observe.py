"""What activations look like on images: a histogram of magnitudes per tensor, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.errors import RefusedInput, first_line, ran_out
from vgg_deploy.libraries import not_imported

if TYPE_CHECKING:
    import onnx

BINS = 2048
Floats = NDArray[np.float32]
Run = Callable[[Sequence[str] | None, Mapping[str, Floats]], list[Floats]]


@dataclass
class Histogram:
    """Magnitudes above zero in ``BINS`` equal bins from 0 to ``top``.

    Exact zeros, half of what a ReLU gives, are left out: no scale rounds them.
    """

    top: float = 0.0
    largest: float = 0.0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: Floats) -> None:
        """Count one more batch; a larger value doubles the range and halves the resolution."""
        magnitudes = np.abs(values[values != 0])
        if not magnitudes.size:
            return
        largest = float(magnitudes.max())
        if not np.isfinite(largest):
            self.largest = float(np.inf)
            return
        self.largest = max(self.largest, largest)
        self.top = self.top or largest
        while largest > self.top:
            self.top *= 2
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([pairs, np.zeros(BINS // 2, np.int64)])
        self.counts += np.histogram(magnitudes, BINS, range=(0, self.top))[0]


def runner(model: onnx.ModelProto) -> Run:
    """What runs a model in memory in ONNX Runtime on the CPU, by names of outputs and inputs.

    Raises ``RefusedInput`` for a model that cannot be run.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise not_imported(
            "measuring activations", "onnxruntime", error, 'pip install "vgg-deploy[cpu]"'
        ) from error
    options = ort.SessionOptions()
    options.log_severity_level = 3
    with _refused():
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def run(wanted: Sequence[str] | None, given: Mapping[str, Floats]) -> list[Floats]:
        with _refused():
            found: list[Floats] = session.run(wanted, given)
        return found

    return run


@contextmanager
def _refused() -> Iterator[None]:
    """What ONNX Runtime has against a model is a refusal, lack of memory stays what it is."""
    try:
        yield
    except Exception as error:
        if ran_out(error):
            raise
        raise RefusedInput(
            f"the ONNX file cannot be run: {first_line(error)}",
            "remove it and make it again: vgg-deploy export --format onnx",
        ) from error


def observe(
    model: onnx.ModelProto, names: Sequence[str], batches: Iterable[Floats]
) -> dict[str, Histogram]:
    """Run ``batches`` of preprocessed images and count the magnitudes of the named tensors."""
    from onnx import TensorProto, helper

    given, wanted = model.graph.input[0].name, model.graph.output[0].name
    inner = [name for name in names if name not in (given, wanted)]
    for name in inner:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    try:
        run = runner(model)
    finally:
        del model.graph.output[1:]
    found = {name: Histogram() for name in names}
    for batch in batches:
        logits, *values = run([wanted, *inner], {given: batch})
        seen = dict(zip(inner, values, strict=True)) | {given: batch, wanted: logits}
        for name in names:
            found[name].add(seen[name])
    return found
