"""Which device and precision a run uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from vgg_deploy import environment
from vgg_deploy.errors import BackendNotAvailable
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
def tuned(device: torch.device) -> Iterator[None]:
    """Process-wide switches that training wants, put back afterwards.

    On the CPU freed memory is kept. On a GPU cuDNN picks its kernels by timing them, without
    TF32: fp32 means fp32.
    """
    with ExitStack() as stack:
        if device.type == "cpu":
            stack.enter_context(kept_heap())
        else:
            flags = torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False)
            stack.enter_context(flags)
        yield
