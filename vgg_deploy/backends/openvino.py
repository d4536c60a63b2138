"""OpenVINO on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vgg_deploy.artifact import Artifact, Format
from vgg_deploy.backends.base import Array, Device, Missing, Session
from vgg_deploy.backends.session import CPU_REMEDY, Place, Placed, importable, opened, threads
from vgg_deploy.errors import BackendNotAvailable


@dataclass(frozen=True)
class OpenVino:
    """An ONNX file in OpenVINO, float32 asked for: its default is bf16 on CPUs that have it."""

    name: str = "openvino"
    formats: frozenset[Format] = field(default=frozenset({"onnx"}))
    device: Device = "cpu"

    def probe(self) -> Missing | None:
        """Needs openvino."""
        with no_telemetry():
            return importable("openvino", CPU_REMEDY)

    def open(self, artifact: Artifact, root: Path, /) -> AbstractContextManager[Session]:
        """Compiled for low latency; refused when the plugin takes another precision."""
        return opened(self, artifact, root, _load)


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


def _load(path: Path) -> Place:
    with no_telemetry():
        import openvino as ov
        from openvino.frontend import FrontEndManager

    hints = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads(),
    }
    # Asked for by name: Core.read_model would try every framework's reader on a damaged file.
    reader = FrontEndManager().load_by_framework("onnx")
    compiled = ov.Core().compile_model(reader.convert(reader.load(str(path))), "CPU", hints)
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if precision != "f32":
        raise BackendNotAvailable(
            f"openvino computes in {precision} although f32 was asked for",
            "choose another backend on this processor",
        )
    return _place_with(ov, compiled)


def _place_with(ov: Any, compiled: Any) -> Place:
    def place(batch: Array) -> Placed:
        request = compiled.create_infer_request()
        request.set_input_tensor(ov.Tensor(batch, shared_memory=True))

        def run() -> None:
            request.infer()

        def read(_held: Array = batch) -> Array:  # the tensor shares the array's memory
            output: Array = request.get_output_tensor().data.copy()
            return output

        return Placed(run, read)

    return place
