"""Which device and precision a run uses."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from vgg_deploy import environment
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.libraries import tf32_switches
from vgg_deploy.train.heap import kept_heap

_BF16_FLAGS = frozenset(("avx512_bf16", "amx_bf16"))


def choose_device(wanted: str) -> torch.device:
    """``"auto"`` is the GPU if there is one; ``BackendNotAvailable`` for a GPU that is not."""
    present = torch.cuda.is_available()
    if wanted == "cuda" and not present:
        raise BackendNotAvailable(
            "torch sees no CUDA device",
            "use --device cpu, or check the driver with vgg-deploy doctor",
        )
    return torch.device("cuda" if present and wanted != "cpu" else "cpu")


def choose_precision(wanted: str, device: torch.device) -> str:
    """``"auto"`` is bf16 where the hardware multiplies it, else fp32."""
    able = has_bf16(device)
    if wanted == "bf16" and not able:
        raise BackendNotAvailable(
            f"this {device.type} has no bf16 instructions and would be slower than in fp32",
            "use --precision fp32 or auto",
        )
    return "bf16" if able and wanted != "fp32" else "fp32"


def has_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 matrix instructions, emulation not counted."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(_BF16_FLAGS.intersection(environment.capture().cpu_flags))


@contextmanager
def tuned(device: torch.device, *, deterministic: bool = False) -> Iterator[None]:
    """Process-wide switches that training wants, put back afterwards.

    On the CPU freed memory is kept, and a container's limit on processors is heeded. On a GPU
    cuDNN picks its kernels by timing them, without TF32: fp32 means fp32. With ``deterministic``
    nothing is picked by timing, and torch takes the kernels that give the same bits every time.
    """
    with ExitStack() as stack:
        if device.type == "cpu":
            stack.enter_context(kept_heap())
            stack.enter_context(_threads_allowed())
        else:
            stack.enter_context(_cudnn(deterministic))
        if deterministic:
            stack.enter_context(_same_bits())
        yield


@contextmanager
def _threads_allowed() -> Iterator[None]:
    """No more threads than a container's limit allows, of which torch knows nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, environment.threads()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _cudnn(deterministic: bool) -> Iterator[None]:
    """Its flags; what it warns of between is nobody's to hide."""
    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=not deterministic, deterministic=deterministic, allow_tf32=False
    )
    with tf32_switches():
        flags.__enter__()
    try:
        yield
    finally:
        with tf32_switches():
            flags.__exit__(None, None, None)


@contextmanager
def _same_bits() -> Iterator[None]:
    """torch's deterministic algorithms.

    A kernel that has none warns and is not refused: those that a VGG on a GPU meets are the
    gradients of pooling, which add in any order where windows overlap. Ours do not: blocks are
    pooled 2×2 by 2, torchvision's 7×7 pool is one of maps of 7, 14, 21 … alone.
    """
    memory: Any = torch.utils.deterministic
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        memory.fill_uninitialized_memory,
    )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
    torch.use_deterministic_algorithms(True, warn_only=True)
    memory.fill_uninitialized_memory = False  # nothing here reads any
    try:
        with warnings.catch_warnings():
            for message in ("max_pool2d_with_indices_backward", "adaptive_avg_pool2d_backward"):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        memory.fill_uninitialized_memory = before[2]
