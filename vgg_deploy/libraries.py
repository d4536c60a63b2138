"""Libraries that need a hand: torchvision beside a torch without CUDA, torch's words on TF32."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from vgg_deploy.errors import (
    BackendNotAvailable,
    ResourceLimit,
    VggDeployError,
    first_line,
    says_out_of_memory,
)

INSTALL_TORCH = 'pip install "vgg-deploy[torch]"'


def why_not(module: str, error: Exception) -> str:
    """What its failed import says of a library: that it is absent, or what it breaks on."""
    if isinstance(error, ModuleNotFoundError) and error.name == module:
        return "is not installed"
    return f"cannot be imported: {first_line(error)}"


def lack_of_memory(module: str, error: Exception) -> ResourceLimit | None:
    """The error to raise where it was memory that a library's import lacked, else None."""
    if not (isinstance(error, MemoryError) or says_out_of_memory(str(error))):
        return None
    return ResourceLimit(
        f"{module} could not be loaded, memory ran out: {first_line(error)}",
        "allow more memory (ulimit -v, a container's limit) or close other programs; "
        "a disk mounted noexec is told in the same words",
    )


def not_imported(what: str, module: str, error: Exception, install: str) -> VggDeployError:
    """The error for ``what`` needing a library whose import ended with ``error``."""
    return lack_of_memory(module, error) or BackendNotAvailable(
        f"{what} needs {module}, which {why_not(module, error)}", install
    )


def import_torch(what: str = "this") -> ModuleType:
    """``torch``, or ``BackendNotAvailable``: ``what`` needs it, and how to install it.

    ``ResourceLimit`` where memory ran out while it was loaded.
    """
    try:
        return importlib.import_module("torch")
    except Exception as error:  # a broken installation raises anything
        raise not_imported(what, "torch", error, INSTALL_TORCH) from error


@contextmanager
def tf32_switches() -> Iterator[None]:
    """For code that moves them: no word on their age, every other warning as before.

    torch warns of them from 2.9 on, once in a process; later versions (2.14) are silent again.
    The new ones do not stand for all of them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Please use the new API settings to control TF32")
        yield


def import_torchvision(name: str = "torchvision") -> Any:
    """``torchvision`` or a module of it, or ``BackendNotAvailable``.

    torchvision's wheel registers its operators for CUDA; beside a CPU-only torch the import ends
    in "operator torchvision::nms does not exist". Only then are the missing schemas declared
    (nothing here calls them) and the import tried again.
    """
    import_torch()
    try:
        return importlib.import_module(name)
    except Exception as error:  # a broken installation raises anything
        if not isinstance(error, RuntimeError) or "torchvision::nms" not in str(error):
            raise not_imported("this", "torchvision", error, INSTALL_TORCH) from error
    _declare_missing_operators()
    _forget("torchvision")
    return importlib.import_module(name)


def _forget(package: str) -> None:
    """Drop a half-imported package, so that the next import starts afresh."""
    for module in [m for m in sys.modules if m.split(".")[0] == package]:
        del sys.modules[module]


_fragments: list[object] = []  # a torch Library undoes its definitions when it is collected


def _declare_missing_operators() -> None:
    import torch

    fragment = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        fragment.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _fragments.append(fragment)
