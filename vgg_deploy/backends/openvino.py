"""OpenVINO on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from vgg_deploy.artifact import Artifact, Format, Precision
from vgg_deploy.backends.base import Array, Device, Missing, Session
from vgg_deploy.backends.session import (
    CPU_REMEDY,
    Place,
    Placed,
    importable,
    logits_of,
    opened,
    translated,
)
from vgg_deploy.environment import threads
from vgg_deploy.errors import BackendNotAvailable, VggDeployError


@dataclass(frozen=True)
class OpenVino:
    """An ONNX file in OpenVINO, in the file's own precision.

    Asked for by name, because OpenVINO's default is bf16 on every CPU that has it. What is not
    quantized in an int8 or fp8 file is computed in float32.
    """

    name: str = "openvino"
    formats: frozenset[Format] = field(default=frozenset({"onnx", "embedded"}))
    device: Device = "cpu"

    def probe(self) -> Missing | None:
        """Needs openvino."""
        with no_telemetry():
            return importable("openvino", CPU_REMEDY)

    def refuses(self, artifact: Artifact, /) -> Missing | None:
        """Half precision that this processor would only emulate, and bf16 of a file that resizes.

        The hint is for the whole graph: resize and normalisation are computed in it, too, which
        bf16 is too coarse for.
        """
        capability = _HALF.get(artifact.precision)
        if capability is None or self.probe():
            return None
        if artifact.format == "embedded" and artifact.precision == "bf16":
            return Missing(
                "openvino would compute the preprocessing in bf16, too",
                "use the plain bf16 file, or the fp32 or int8 one here",
            )
        try:
            with translated(f"openvino could not say what it computes {artifact.path} in"):
                here = _capabilities()
        except VggDeployError as error:  # its CPU plugin does not load
            return Missing(error.cause, f"reinstall openvino: {CPU_REMEDY}")
        if capability in here:
            return None
        return Missing(
            f"openvino does not compute in {artifact.precision} on this processor",
            "use the fp32 or int8 file here",
        )

    def open(self, artifact: Artifact, root: Path, /) -> AbstractContextManager[Session]:
        """Compiled for low latency; refused when the plugin takes another precision."""
        return opened(self, artifact, root, lambda path: _load(path, artifact.precision))


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Within the block ``import openvino`` reports nothing to its vendor.

    Unasked, the import writes a client id into the user's home and sends an event over the
    network; without its telemetry package it uses a stub of its own that does neither.
    """
    name = "openvino_telemetry"
    if name in sys.modules or "openvino" in sys.modules:
        yield  # imported before, by someone else: too late
        return
    sys.modules[name] = None  # type: ignore[assignment]  # Python's way to make an import fail
    try:
        yield
    finally:
        del sys.modules[name]


_HALF: Mapping[Precision, str] = {"fp16": "FP16", "bf16": "BF16"}  # the plugin's own words


@cache
def _capabilities() -> frozenset[str]:
    with no_telemetry():
        import openvino as ov

    return frozenset(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def _load(path: Path, precision: Precision) -> Place:
    with no_telemetry():
        import openvino as ov
        from openvino.frontend import FrontEndManager

    wanted = {"fp16": "f16", "bf16": "bf16"}.get(precision, "f32")
    hints = {
        "INFERENCE_PRECISION_HINT": wanted,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads(),
    }
    # Asked for by name: Core.read_model would try every framework's reader on a damaged file.
    reader = FrontEndManager().load_by_framework("onnx")
    compiled = ov.Core().compile_model(reader.convert(reader.load(str(path))), "CPU", hints)
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if taken != wanted:
        raise BackendNotAvailable(
            f"openvino computes in {taken} although {wanted} was asked for",
            "choose another backend on this processor",
        )
    return _place_with(ov, compiled)


def _place_with(ov: Any, compiled: Any) -> Place:
    wanted = logits_of(compiled.outputs, lambda output: output.any_name)

    def place(batch: Array) -> Placed:
        request = compiled.create_infer_request()
        request.set_input_tensor(ov.Tensor(batch, shared_memory=True))

        def run() -> None:
            request.infer()

        def read(_held: Array = batch) -> Array:  # the tensor shares the array's memory
            output: Array = request.get_tensor(wanted).data.copy()
            return output

        return Placed(run, read)

    return place
