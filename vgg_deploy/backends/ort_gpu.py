"""ONNX Runtime on a GPU: its CUDA kernels (``ort-cuda``), or TensorRT inside it (``ort-trt``).

ONNX Runtime falls back to the CPU with no more than a log line. Here the libraries that a provider
links are loaded one by one before, so that the missing one is named and NVIDIA's wheels are found;
falling back is forbidden; and every node is looked up afterwards.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from contextlib import AbstractContextManager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vgg_deploy import cuda
from vgg_deploy.artifact import Artifact, Format
from vgg_deploy.backends.base import Missing, Session
from vgg_deploy.backends.device import DeviceSession, OnDevice
from vgg_deploy.backends.ort_network import OrtNetwork, open_network
from vgg_deploy.backends.session import importable, opened
from vgg_deploy.backends.shared_library import load_library, needed_by
from vgg_deploy.cuda import TF32_VARIABLE, tf32_is_off
from vgg_deploy.errors import BackendNotAvailable

Provider = Literal["CUDAExecutionProvider", "TensorrtExecutionProvider"]
GPU_REMEDY = (
    'pip uninstall onnxruntime, then pip install "vgg-deploy[gpu]": the two packages share a module'
)
# TensorRT's provider and every buffer on a GPU take their memory from the CUDA provider.
_LIBRARIES: dict[Provider, tuple[str, ...]] = {
    "CUDAExecutionProvider": ("cuda",),
    "TensorrtExecutionProvider": ("cuda", "tensorrt"),
}
_LOADED_LATER = ("libcudnn.so.9",)  # when the CUDA provider meets its first convolution
# How to get a library that is lacking; the extras are for the CUDA that the build is for, 12 or 13.
_WHEELS = "pip install 'onnxruntime-gpu[cuda,cudnn]'"
_LIBRARY_REMEDY = {
    "libcuda.so": "install NVIDIA's driver; nvidia-smi must answer",
    "libnvinfer": "pip install 'tensorrt>=10,<11'; ONNX Runtime links TensorRT 10",
    "libnvonnxparser": "pip install 'tensorrt>=10,<11'; ONNX Runtime links TensorRT 10",
}
_ANY_LIBRARY = f"{_WHEELS}, or install CUDA and cuDNN"


@dataclass(frozen=True)
class OrtGpu:
    """An ONNX file on one of ONNX Runtime's GPU providers, and on no other."""

    name: str = "ort-cuda"
    provider: Provider = "CUDAExecutionProvider"
    cuda_graph: bool = True
    formats: frozenset[Format] = field(default=frozenset({"onnx"}))
    device: Literal["cuda"] = "cuda"
    driver: Callable[[], cuda.Driver] = cuda.driver

    def probe(self) -> Missing | None:
        """Needs onnxruntime-gpu, the libraries its provider links, a driver and a GPU."""
        if missing := importable("onnxruntime", GPU_REMEDY):
            return missing
        import onnxruntime as ort

        _preload(self.provider)
        if self.provider not in ort.get_available_providers():
            return Missing(f"this build of onnxruntime has no {self.provider}", GPU_REMEDY)
        if missing := missing_library(Path(ort.__file__).parent / "capi", self.provider):
            return missing
        try:
            self.driver().gpu()
        except BackendNotAvailable as error:
            return Missing(error.cause, error.remedy)
        return None

    def refuses(self, artifact: Artifact, /) -> Missing | None:
        """Where the provider has no kernel, or none that computes in the file's precision."""
        if self.provider == "CUDAExecutionProvider":
            if artifact.precision == "bf16":
                return Missing(
                    "ONNX Runtime's CUDA provider has no MaxPool for bf16",
                    "use trt, ort-trt or torch-cuda-bf16, or the fp16 file",
                )
            if artifact.precision in ("int8", "fp8"):
                return Missing(
                    f"ONNX Runtime's CUDA kernels compute {artifact.precision} Q/DQ in fp32",
                    "use trt or ort-trt, or the fp16 file",
                )
        elif artifact.precision == "fp8":
            return Missing("ort-trt has no switch for fp8", "use trt")
        elif artifact.precision == "fp32" and not tf32_is_off():
            return Missing(
                "ONNX Runtime's TensorRT provider cannot switch TF32 off by itself",
                f"set {TF32_VARIABLE}=0 before vgg-deploy is started",
            )
        return None

    def open(self, artifact: Artifact, root: Path, /) -> AbstractContextManager[Session]:
        """A session whose every node runs on the provider; nothing is ever left to the CPU."""

        def load(path: Path) -> OnDevice:
            network: OrtNetwork = open_network(
                path, artifact, self.provider, self.driver(), cuda_graph=self.cuda_graph
            )
            return network

        return opened(self, artifact, root, load, DeviceSession)


def missing_library(folder: Path, provider: Provider) -> Missing | None:
    """The first shared library that a provider lacks, by name.

    ``folder`` holds onnxruntime's own libraries. The provider itself is only read: its start-up
    code needs a host that onnxruntime sets, and loaded before that it ends the process
    (docs/LOG.md).
    """
    names: list[str] = []
    for kind in _LIBRARIES[provider]:
        path = folder / f"libonnxruntime_providers_{kind}.so"
        if not path.is_file():
            return Missing(f"{provider} cannot be loaded: {path.name} is not there", GPU_REMEDY)
        names += needed_by(path)
    for name in dict.fromkeys((*names, *_LOADED_LATER)):
        if said := load_library(name):  # "libcudnn.so.9: cannot open shared object file: …"
            lacks = said.partition(":")[0]
            return Missing(f"{provider} cannot be loaded: {said}", _remedy_for(lacks))
    return None


def _preload(provider: Provider) -> None:
    import onnxruntime as ort

    with suppress(AttributeError, OSError, RuntimeError), redirect_stdout(io.StringIO()):
        ort.preload_dlls()  # prints what it does not find; loading says it better
    if provider == "TensorrtExecutionProvider":
        with suppress(Exception):  # importing it loads its libraries; absence is told by name
            importlib.import_module("tensorrt_libs")
            importlib.import_module("tensorrt")


def _remedy_for(library: str) -> str:
    found = (text for start, text in _LIBRARY_REMEDY.items() if library.startswith(start))
    return next(found, _ANY_LIBRARY)
