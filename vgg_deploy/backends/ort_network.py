"""An ONNX Runtime session on a GPU: provider options, buffers bound once, CUDA graphs.

With ``enable_cuda_graph`` the first run of a graph number is plain, the second is captured, later
ones are replayed, on the same addresses. So each bound batch gets a number of its own, and calls
get -1, which means no graph (ONNX Runtime's documentation of ``gpu_graph_id``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vgg_deploy.artifact import Artifact, Precision
from vgg_deploy.backends.base import Array
from vgg_deploy.backends.session import Placed, logits_of, only_input
from vgg_deploy.cuda import Driver
from vgg_deploy.errors import BackendNotAvailable, first_line, says_out_of_memory

_NO_GRAPH = -1
_RUNS_BEFORE_REPLAY = 3  # plain, captured, and one replayed
_ERRORS_ONLY = 3
_FORBID_CPU = "session.disable_cpu_ep_fallback"
_RECORD_NODES = "session.record_ep_graph_assignment_info"


def cuda_options(precision: Precision, stream: int, *, cuda_graph: bool) -> dict[str, str]:
    """Options of the CUDA provider: the fastest algorithms, and TF32 only where it is asked for."""
    return {
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "cudnn_conv_use_max_workspace": "1",
        "use_tf32": "1" if precision == "tf32" else "0",
        "prefer_nhwc": "1" if precision == "fp16" else "0",  # tensor cores want it
        "enable_cuda_graph": "1" if cuda_graph else "0",
        "user_compute_stream": str(stream),
    }


def tensorrt_options(precision: Precision, stream: int, *, cuda_graph: bool) -> dict[str, str]:
    """Options of the TensorRT provider; it builds a weakly typed network from these switches.

    They are ``"True"`` and ``"False"``: ``"1"``, which the CUDA provider takes, is refused. So is a
    name that it does not know, and that for bf16 came with 1.23.
    """
    return {
        "trt_fp16_enable": str(precision in ("fp16", "int8")),
        **({"trt_bf16_enable": "True"} if precision == "bf16" else {}),
        "trt_int8_enable": str(precision == "int8"),
        "trt_builder_optimization_level": "5",
        "trt_cuda_graph_enable": str(cuda_graph),
        "user_compute_stream": str(stream),
    }


OPTIONS = {
    "CUDAExecutionProvider": cuda_options,
    "TensorrtExecutionProvider": tensorrt_options,
}


@dataclass
class OrtNetwork:
    """What a session holds on the GPU."""

    artifact: Artifact
    session: Any
    driver: Driver
    stream: int
    cuda_graph: bool
    next_graph: int = 1
    numbers: list[int] = field(default_factory=list)  # of the graphs captured so far

    @property
    def modes(self) -> Mapping[str, str]:
        """How it runs, for results."""
        tf32 = "on" if self.artifact.precision == "tf32" else "off"
        return {"cuda_graph": "on" if self.numbers else "off", "tf32": tf32}

    def place(self, batch: Array, *, keep: bool) -> Placed:
        """Put a batch and room for its logits on the GPU; ``run`` enqueues."""
        import onnxruntime as ort

        given = only_input(self.session.get_inputs())
        wanted = logits_of(self.session.get_outputs(), lambda output: output.name)
        shape = (len(batch), *(int(size) for size in self.artifact.output.shape[1:]))
        source = ort.OrtValue.ortvalue_from_numpy(batch, "cuda", 0)
        output = ort.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, "cuda", 0)
        binding = self.session.io_binding()
        binding.bind_ortvalue_input(given.name, source)
        binding.bind_ortvalue_output(wanted.name, output)
        options = self._run_options(self._graph_number(keep))

        def run() -> None:
            self.session.run_with_iobinding(binding, options)

        def read(_held: tuple[Any, Any] = (source, output)) -> Array:
            self.wait()
            logits: Array = output.numpy()
            return logits

        if keep:
            for _ in range(_RUNS_BEFORE_REPLAY):
                run()
            self.wait()
        return Placed(run, read)

    def wait(self) -> None:
        """Until the stream is done."""
        self.driver.wait(self.stream)

    def close(self) -> None:
        """The session goes before the stream that it uses."""
        if self.session is not None:
            self.wait()
            self.session = None
            self.driver.end_stream(self.stream)

    def _graph_number(self, keep: bool) -> int:
        if not (keep and self.cuda_graph):
            return _NO_GRAPH
        self.numbers.append(self.next_graph)
        self.next_graph += 1
        return self.numbers[-1]

    def _run_options(self, graph: int) -> Any:
        import onnxruntime as ort

        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(graph))
        # a run is only enqueued; whoever wants to know waits for the stream
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return options


def open_network(
    path: Path, artifact: Artifact, provider: str, driver: Driver, *, cuda_graph: bool
) -> OrtNetwork:
    """A session on ``provider`` and nothing else, or ``BackendNotAvailable``."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry(_FORBID_CPU, "1")
    options.add_session_config_entry(_RECORD_NODES, "1")
    stream = driver.new_stream()
    try:
        chosen = OPTIONS[provider](artifact.precision, stream, cuda_graph=cuda_graph)
        session = _session(ort, path, options, provider, chosen)
        require_provider(session, provider)
    except BaseException:
        driver.end_stream(stream)
        raise
    return OrtNetwork(artifact, session, driver, stream, cuda_graph)


def _session(ort: Any, path: Path, options: Any, provider: str, chosen: dict[str, str]) -> Any:
    try:
        # without enable_fallback=0 it would print a banner and try other providers
        return ort.InferenceSession(
            str(path), options, providers=[(provider, chosen)], enable_fallback=0
        )
    except Exception as error:
        if says_out_of_memory(str(error)):  # names of providers stand in any message
            raise
        if "fallback to CPU EP has been explicitly disabled" in str(error):
            raise BackendNotAvailable(
                f"{provider} does not take every operator of {path.name}, or could not start",
                "see what is missing: vgg-deploy doctor",
            ) from error
        if "ExecutionProvider" in str(error) or "libraries" in str(error):
            raise BackendNotAvailable(
                f"{provider} could not start: {first_line(error)}",
                "see what is missing: vgg-deploy doctor",
            ) from error
        raise


def require_provider(session: Any, provider: str) -> None:
    """Raise ``BackendNotAvailable`` unless every node of a session is on ``provider``."""
    have = session.get_providers()
    if not have or have[0] != provider:
        raise BackendNotAvailable(
            f"the session runs on {', '.join(have) or 'nothing'} instead of {provider}",
            "see what is missing: vgg-deploy doctor",
        )
    ask = getattr(session, "get_provider_graph_assignment_info", None)
    if ask is None:  # before 1.24: falling back to the CPU is still forbidden
        return
    astray = [
        f"{node.op_type} {node.name} on {part.ep_name}"
        for part in ask()
        if part.ep_name != provider
        for node in part.get_nodes()
    ]
    if astray:
        raise BackendNotAvailable(
            f"{len(astray)} nodes are not on {provider}: {astray[0]}",
            "use another backend for this file",
        )
