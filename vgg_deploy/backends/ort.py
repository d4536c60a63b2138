"""ONNX Runtime on the CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
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
    only_input,
    opened,
)
from vgg_deploy.environment import threads
from vgg_deploy.errors import BackendNotAvailable

PROVIDER = "CPUExecutionProvider"
_ERRORS_ONLY = 3


@dataclass(frozen=True)
class OrtCpu:
    """An ONNX file in ONNX Runtime's own CPU kernels."""

    name: str = "ort-cpu"
    formats: frozenset[Format] = field(default=frozenset({"onnx", "embedded"}))
    device: Device = "cpu"

    def probe(self) -> Missing | None:
        """Needs onnxruntime, in any of its builds."""
        return importable("onnxruntime", CPU_REMEDY)

    def refuses(self, artifact: Artifact, /) -> Missing | None:
        """Its CPU kernels for convolutions do not take bfloat16."""
        if artifact.precision != "bf16":
            return None
        return Missing("onnxruntime has no bf16 convolution on the CPU", "use openvino for bf16")

    def open(self, artifact: Artifact, root: Path, /) -> AbstractContextManager[Session]:
        """A session with the CPU provider and no other."""
        return opened(self, artifact, root, lambda path: _load(path, artifact.precision))


def session_options(precision: Precision) -> Any:
    """How a file of that precision is run here, profiled or not."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    if precision == "fp8":
        # Beyond this level 1.31 moves float8 into operators that do not take it (docs/LOG.md).
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.intra_op_num_threads = threads()
    options.log_severity_level = _ERRORS_ONLY
    return options


def _load(path: Path, precision: Precision) -> Place:
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), session_options(precision), providers=[PROVIDER])
    if session.get_providers() != [PROVIDER]:
        raise BackendNotAvailable(
            f"ort-cpu runs on {', '.join(session.get_providers())} instead of {PROVIDER}",
            "install a build of onnxruntime that has its CPU provider",
        )
    return _place_with(session)


def _place_with(session: Any) -> Place:
    given = only_input(session.get_inputs())
    # an embedded file has probabilities, too; a session gives logits
    wanted = logits_of(session.get_outputs(), lambda output: output.name)

    def place(batch: Array) -> Placed:
        binding = session.io_binding()
        binding.bind_cpu_input(given.name, batch)
        binding.bind_output(wanted.name, "cpu")

        def run() -> None:
            session.run_with_iobinding(binding)

        def read(_held: Array = batch) -> Array:  # the binding does not keep its input alive
            (output,) = binding.copy_outputs_to_cpu()
            result: Array = output
            return result

        return Placed(run, read)

    return place
