"""OpenVINO on the CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vgg_deploy.artifact import Artifact, Format
from vgg_deploy.backends.base import Array, Device, Missing, Session
from vgg_deploy.backends.session import CPU_REMEDY, Place, Placed, importable, opened, threads


@dataclass(frozen=True)
class OpenVino:
    """An ONNX file in OpenVINO, float32 asked for: its default is bf16 on CPUs that have it."""

    name: str = "openvino"
    formats: frozenset[Format] = field(default=frozenset({"onnx"}))
    device: Device = "cpu"

    def probe(self) -> Missing | None:
        """Needs openvino."""
        return importable("openvino", CPU_REMEDY)

    def open(self, artifact: Artifact, root: Path, /) -> AbstractContextManager[Session]:
        """Compiled for low latency; refused when the plugin takes another precision."""
        return opened(self, artifact, root, _load)


def _load(path: Path) -> Place:
    import openvino as ov

    hints = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads(),
    }
    compiled = ov.Core().compile_model(str(path), "CPU", hints)
    precision = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if precision != "f32":
        raise RuntimeError(f"computes in {precision} although f32 was asked for")
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
