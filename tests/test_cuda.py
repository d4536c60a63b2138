"""The CUDA seam: real bindings without a driver, and a played runtime for what needs a GPU."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

from vgg_deploy.cuda import CudaRuntime, Driver, out_of_memory
from vgg_deploy.errors import BackendNotAvailable, ResourceLimit

ARRAY = np.zeros(4, np.float32)
CALLS: dict[str, Callable[[CudaRuntime], object]] = {
    "memory": lambda cuda: cuda.memory(),
    "allocate": lambda cuda: cuda.allocate(16),
    "free": lambda cuda: cuda.free(4096),
    "upload": lambda cuda: cuda.upload(4096, ARRAY, 8192),
    "download": lambda cuda: cuda.download(ARRAY, 4096, 8192),
    "new_stream": lambda cuda: cuda.new_stream(),
    "end_stream": lambda cuda: cuda.end_stream(8192),
    "wait": lambda cuda: cuda.wait(8192),
    "launch": lambda cuda: cuda.launch(4096, 8192),
    "end_graph": lambda cuda: cuda.end_graph(4096),
    "capture": lambda cuda: cuda.capture(8192, lambda: None),
}


def test_the_real_errors_have_the_names_that_are_asked_for() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="pip install cuda-bindings")
    for error in Error:
        assert int(getattr(runtime.cudaError_t, error.name)) == error


@pytest.mark.parametrize("name", CALLS)
def test_the_real_bindings_take_our_arguments(name: str) -> None:
    """Without a driver each call gets as far as CUDA's own error: no TypeError of the binding."""
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="pip install cuda-bindings")
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("there is a GPU here, where these addresses would be wrong")
    with pytest.raises(BackendNotAvailable, match=r"CUDA: .*\(cuda\w+\)"):
        CALLS[name](CudaRuntime(runtime))


class Error(IntEnum):
    cudaSuccess = 0  # noqa: N815  CUDA's names
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorInsufficientDriver = 35  # noqa: N815
    cudaErrorNoDevice = 100  # noqa: N815
    cudaErrorStreamCaptureInvalidated = 901  # noqa: N815


class Mode(Enum):
    cudaStreamCaptureModeRelaxed = "relaxed"  # noqa: N815


class Played:
    """CUDA's runtime as far as it is called, with a log; ``fails`` maps a call to its error."""

    cudaError_t, cudaStreamCaptureMode = Error, Mode  # noqa: N815
    cudaStreamNonBlocking = 1  # noqa: N815
    planned: ClassVar[dict[str, tuple[Any, ...]]] = {
        "cudaDriverGetVersion": (13000,),
        "cudaRuntimeGetVersion": (12060,),
        "cudaGetDeviceCount": (1,),
        "cudaGetDevice": (0,),
        "cudaMemGetInfo": (2 * 10**9, 80 * 10**9),
        "cudaMalloc": (4096,),
        "cudaStreamCreateWithFlags": (8192,),
        "cudaStreamEndCapture": (7,),
        "cudaGraphInstantiate": (9,),
        "cudaGetErrorString": (b"a planned error",),
    }

    def __init__(self, **fails: Error) -> None:
        self.fails = fails
        self.results = dict(self.planned)
        self.log: list[tuple[Any, ...]] = []
        self.properties = SimpleNamespace(
            name=b"NVIDIA H100\0\0", major=9, minor=0, totalGlobalMem=80 * 10**9
        )

    def __getattr__(self, name: str) -> Callable[..., tuple[Any, ...]]:
        def call(*args: Any) -> tuple[Any, ...]:
            self.log.append((name, *args))
            if name in self.fails:
                return (self.fails[name], None)
            if name == "cudaGetDeviceProperties":
                return (Error.cudaSuccess, self.properties)
            return (Error.cudaSuccess, *self.results.get(name, ()))

        return call

    @property
    def names(self) -> list[str]:
        return [entry[0] for entry in self.log]


def test_the_gpu_as_cuda_tells_it() -> None:
    gpu = CudaRuntime(Played()).gpu()
    assert (gpu.name, gpu.compute_capability, gpu.cuda) == ("NVIDIA H100", "9.0", "12.6")
    assert gpu.memory_bytes == 80 * 10**9


@pytest.mark.parametrize(
    ("call", "value", "cause"),
    [
        ("cudaDriverGetVersion", 0, "no NVIDIA driver is installed"),
        ("cudaGetDeviceCount", 0, "no NVIDIA GPU is visible"),
    ],
)
def test_no_driver_and_no_gpu_are_told_apart(call: str, value: int, cause: str) -> None:
    api = Played()
    api.results[call] = (value,)
    with pytest.raises(BackendNotAvailable, match=cause):
        CudaRuntime(api).gpu()


def test_no_visible_gpu_is_an_error_of_cudas_own() -> None:
    """With ``CUDA_VISIBLE_DEVICES=""`` the real call ends in error 100, not in a count of 0."""
    with pytest.raises(BackendNotAvailable, match="no NVIDIA GPU is visible") as caught:
        CudaRuntime(Played(cudaGetDeviceCount=Error.cudaErrorNoDevice)).gpu()
    assert caught.value.remedy == "check CUDA_VISIBLE_DEVICES"


def test_a_driver_for_an_older_cuda_may_keep_bindings_of_its_own() -> None:
    with pytest.raises(BackendNotAvailable, match="cudaGetDeviceCount") as caught:
        CudaRuntime(Played(cudaGetDeviceCount=Error.cudaErrorInsufficientDriver)).gpu()
    assert "cuda-bindings<13" in caught.value.remedy
    with pytest.raises(BackendNotAvailable) as caught:
        CudaRuntime(Played(cudaGraphLaunch=Error.cudaErrorStreamCaptureInvalidated)).launch(9, 8192)
    assert "cuda-bindings" not in caught.value.remedy


def test_no_memory_says_what_was_wanted_and_is_free() -> None:
    api = Played(cudaMalloc=Error.cudaErrorMemoryAllocation)
    with pytest.raises(ResourceLimit, match=r"12,000 bytes wanted, 2\.00 of 80\.00 GB are free"):
        CudaRuntime(api).allocate(12_000)
    api = Played(cudaGraphLaunch=Error.cudaErrorMemoryAllocation)
    with pytest.raises(ResourceLimit, match="what cudaGraphLaunch needs wanted"):
        CudaRuntime(api).launch(9, 8192)


def test_where_even_that_cannot_be_read_the_error_stands() -> None:
    class Broken:
        def memory(self) -> tuple[int, int]:
            raise BackendNotAvailable("gone", "")

    broken: Driver = Broken()  # type: ignore[assignment]
    assert "could not be read" in out_of_memory("1 byte", broken).cause


def test_a_capture_is_begun_ended_and_its_template_given_back() -> None:
    api, ran = Played(), []
    assert CudaRuntime(api).capture(8192, lambda: ran.append(True)) == 9
    assert ran == [True]
    assert api.log == [
        ("cudaStreamBeginCapture", 8192, Mode.cudaStreamCaptureModeRelaxed),
        ("cudaStreamEndCapture", 8192),
        ("cudaGraphInstantiate", 7, 0),
        ("cudaGraphDestroy", 7),
    ]


def test_a_capture_that_breaks_is_ended_all_the_same() -> None:
    def fails() -> None:
        raise ZeroDivisionError

    api = Played()
    with pytest.raises(ZeroDivisionError):
        CudaRuntime(api).capture(8192, fails)
    assert api.names == ["cudaStreamBeginCapture", "cudaStreamEndCapture"]
    api = Played(cudaStreamEndCapture=Error.cudaErrorStreamCaptureInvalidated)
    with pytest.raises(BackendNotAvailable, match=r"a planned error \(cudaStreamEndCapture\)"):
        CudaRuntime(api).capture(8192, lambda: None)
    assert "cudaGraphInstantiate" not in api.names
