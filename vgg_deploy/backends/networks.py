"""Loading what torch's backends run: a checkpoint's network, a program, a script, a package."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Network = Callable[["torch.Tensor"], "torch.Tensor"]


def load_program(path: Path) -> Network:
    """The module of an exported program (``.pt2``)."""
    import torch

    with quiet():
        network: Network = torch.export.load(str(path)).module()
    return network


def load_script(path: Path) -> Network:
    """A TorchScript file, in eval mode as it was frozen."""
    import torch

    with quiet():
        network: Network = torch.jit.load(str(path), map_location="cpu")
    return network


def load_package(path: Path) -> Network:
    """The compiled model of an AOTInductor package."""
    import torch._inductor

    with quiet():
        package: Any = torch._inductor.aoti_load_package(str(path))
    network: Network = package
    return network


@contextmanager
def quiet() -> Iterator[None]:
    """Deprecation notes of formats that we keep on purpose do not reach the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", UserWarning)
        yield
