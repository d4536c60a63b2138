"""The few CUDA calls that engines need, behind one small protocol.

``CudaRuntime`` makes them through NVIDIA's ``cuda-bindings``; tests put a driver without a GPU in
its place. Every error becomes a ``VggDeployError``: no driver or no GPU is exit code 10, no memory
is 6 and says how much was wanted and how much is free.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

from numpy.typing import NDArray

from vgg_deploy.environment import capture
from vgg_deploy.errors import BackendNotAvailable, ResourceLimit

INSTALL = 'pip install "vgg-deploy[gpu]"'
_NEEDS = "needs an NVIDIA GPU and a driver that is new enough; see nvidia-smi"
# CUDA's runtime lies in cuda-bindings itself: 13 does not run on a driver for CUDA 12, torch may.
OLD_DRIVER = "install a newer driver, or cuda-bindings for its CUDA: pip install 'cuda-bindings<13'"
TF32_VARIABLE = "NVIDIA_TF32_OVERRIDE"  # of all NVIDIA libraries; 0 wins over every other switch


def tf32_is_off() -> bool:
    """Whether the environment keeps all of NVIDIA's libraries from TF32."""
    return os.environ.get(TF32_VARIABLE) == "0"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """The GPU that work runs on."""

    name: str
    compute_capability: str  # "8.9"
    memory_bytes: int
    cuda: str  # version of the CUDA runtime that the bindings are for: "13.0"
    driver: str


class Driver(Protocol):
    """What an engine needs of CUDA; addresses, streams and graphs are plain integers."""

    def gpu(self) -> Gpu:
        """The GPU in use, or ``BackendNotAvailable``."""
        ...

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of the GPU."""
        ...

    def allocate(self, size: int) -> int:
        """Address of ``size`` new bytes on the GPU, or ``ResourceLimit``."""
        ...

    def free(self, address: int) -> None:
        """Give memory back."""
        ...

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Enqueue a copy from the host; ``array`` is contiguous and must live until a sync."""
        ...

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Enqueue a copy to the host."""
        ...

    def new_stream(self) -> int:
        """A stream of its own, which does not wait for the default one."""
        ...

    def end_stream(self, stream: int) -> None:
        """Let go of a stream."""
        ...

    def wait(self, stream: int) -> None:
        """Until all that was enqueued in ``stream`` is done."""
        ...

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        """A graph of what ``enqueue`` puts into ``stream``; nothing is run."""
        ...

    def launch(self, graph: int, stream: int) -> None:
        """Enqueue one run of a graph."""
        ...

    def end_graph(self, graph: int) -> None:
        """Let go of a graph."""
        ...


@dataclass(frozen=True)
class CudaRuntime:
    """``Driver`` over ``cuda.bindings.runtime``, on CUDA's current device."""

    api: Any

    def gpu(self) -> Gpu:
        """Name, compute capability and memory of the current device."""
        if not self._call("cudaDriverGetVersion"):
            raise BackendNotAvailable(
                "no NVIDIA driver is installed",
                "needs an NVIDIA GPU and its driver; see nvidia-smi",
            )
        error, count = self.api.cudaGetDeviceCount()
        if error == self.api.cudaError_t.cudaErrorNoDevice or count == 0:  # it counts to no 0
            raise BackendNotAvailable("no NVIDIA GPU is visible", "check CUDA_VISIBLE_DEVICES")
        self._check(error, "cudaGetDeviceCount")
        found = self._call("cudaGetDeviceProperties", self._call("cudaGetDevice"))
        return Gpu(
            name=found.name.rstrip(b"\0").decode(),
            compute_capability=f"{found.major}.{found.minor}",
            memory_bytes=int(found.totalGlobalMem),
            cuda=_version(self._call("cudaRuntimeGetVersion")),
            driver=capture().driver or f"CUDA {_version(self._call('cudaDriverGetVersion'))}",
        )

    def memory(self) -> tuple[int, int]:
        """Free and total bytes."""
        free, total = self._call("cudaMemGetInfo")
        return int(free), int(total)

    def allocate(self, size: int) -> int:
        """``cudaMalloc``."""
        error, address = self.api.cudaMalloc(size)
        if error == self.api.cudaError_t.cudaErrorMemoryAllocation:
            raise out_of_memory(f"{size:,} bytes", self)
        self._check(error, "cudaMalloc")
        return int(address)

    def free(self, address: int) -> None:
        """``cudaFree``."""
        self._call("cudaFree", address)

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        """``cudaMemcpyAsync`` to the device."""
        kind = self.api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, stream)

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        """``cudaMemcpyAsync`` to the host."""
        kind = self.api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", array.ctypes.data, address, array.nbytes, kind, stream)

    def new_stream(self) -> int:
        """``cudaStreamCreateWithFlags``, non-blocking."""
        return int(self._call("cudaStreamCreateWithFlags", self.api.cudaStreamNonBlocking))

    def end_stream(self, stream: int) -> None:
        """``cudaStreamDestroy``."""
        self._call("cudaStreamDestroy", stream)

    def wait(self, stream: int) -> None:
        """``cudaStreamSynchronize``."""
        self._call("cudaStreamSynchronize", stream)

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        """Capture in relaxed mode, so that a runtime may still allocate; always ended."""
        mode = self.api.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
        self._call("cudaStreamBeginCapture", stream, mode)
        try:
            enqueue()
        except BaseException:
            self.api.cudaStreamEndCapture(stream)  # else the stream stays in capture mode
            raise
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return int(self._call("cudaGraphInstantiate", graph, 0))
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        """``cudaGraphLaunch``."""
        self._call("cudaGraphLaunch", graph, stream)

    def end_graph(self, graph: int) -> None:
        """``cudaGraphExecDestroy``."""
        self._call("cudaGraphExecDestroy", graph)

    def _call(self, name: str, *args: Any) -> Any:
        """A call's results without its error code."""
        error, *results = getattr(self.api, name)(*args)
        self._check(error, name)
        return results[0] if len(results) == 1 else tuple(results)

    def _check(self, error: Any, name: str) -> None:
        if error == self.api.cudaError_t.cudaSuccess:
            return
        text = self.api.cudaGetErrorString(error)[1].decode()
        if error == self.api.cudaError_t.cudaErrorMemoryAllocation:
            raise out_of_memory(f"what {name} needs", self)
        old = error == self.api.cudaError_t.cudaErrorInsufficientDriver
        raise BackendNotAvailable(f"CUDA: {text} ({name})", OLD_DRIVER if old else _NEEDS)


def out_of_memory(wanted: str, driver: Driver) -> ResourceLimit:
    """The error for GPU memory that was not there."""
    try:
        free, total = driver.memory()
        there = f"{free / 1e9:.2f} of {total / 1e9:.2f} GB are free"
    except Exception:  # a driver that fails here has said enough
        there = "how much is free could not be read"
    return ResourceLimit(
        f"out of GPU memory: {wanted} wanted, {there}",
        "use a smaller batch, or end other programs on this GPU",
    )


@cache
def driver() -> Driver:
    """The CUDA runtime of this machine, or ``BackendNotAvailable`` without ``cuda-bindings``."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise BackendNotAvailable(f"cuda-bindings cannot be imported: {error}", INSTALL) from error
    return CudaRuntime(runtime)


def _version(number: int) -> str:
    """CUDA's 13050 as ``"13.5"``."""
    return f"{number // 1000}.{number % 1000 // 10}"
