"""Everything that can open an artifact, in one explicit table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from vgg_deploy.backends.base import Backend
from vgg_deploy.backends.openvino import OpenVino
from vgg_deploy.backends.ort import OrtCpu
from vgg_deploy.backends.ort_gpu import OrtGpu
from vgg_deploy.backends.pytorch import Aoti, Torch, TorchCompile, TorchScript
from vgg_deploy.backends.tensorrt import TensorRt
from vgg_deploy.backends.torch_gpu import TORCH_GPU, TorchGpu
from vgg_deploy.errors import unknown_choice

_ALL: tuple[Backend, ...] = (
    Torch(),
    TorchCompile(),
    TorchScript(),
    Aoti(),
    OrtCpu(),
    OpenVino(),
    *TORCH_GPU,
    OrtGpu(),
    # its provider keeps one graph per session, so that a call would replay another batch
    OrtGpu(name="ort-trt", provider="TensorrtExecutionProvider", cuda_graph=False),
    TensorRt(),
    TensorRt(name="trt-rtx", flavour="tensorrt_rtx"),
)
BACKENDS: Mapping[str, Backend] = {backend.name: backend for backend in _ALL}


def get_backend(name: str) -> Backend:
    """The backend of that name, or ``UsageError`` with the nearest one."""
    if name not in BACKENDS:
        raise unknown_choice("backend", name, BACKENDS)
    return BACKENDS[name]


def get_without_graph(name: str) -> Backend:
    """The same, launching each kernel by itself where it could replay a CUDA graph."""
    return without_graph(get_backend(name))


def without_graph(backend: Backend) -> Backend:
    """``backend`` itself where it has no such choice."""
    if isinstance(backend, TensorRt | OrtGpu | TorchGpu):
        return replace(backend, cuda_graph=False)
    return backend
