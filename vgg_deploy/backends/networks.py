"""Loading what torch's backends run: a program, a script, a package; and keeping torch quiet."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgg_deploy.errors import ResourceLimit

if TYPE_CHECKING:
    import torch

Network = Callable[["torch.Tensor"], "torch.Tensor"]

_RECOMPILE_LIMIT = 64  # dynamo's 8 counts over all sessions of a process
_COMPILER_LOGGERS = ("torch.utils.cpp_extension", "torch._inductor")  # "No CUDA runtime is found"


def load_program(path: Path) -> Network:
    """The module of an exported program (``.pt2``)."""
    import torch

    with _errors_only("torch.export"):  # a corrupt file is logged with a traceback, then raised
        network: Network = torch.export.load(str(path)).module()
    return network


def load_script(path: Path, device: str = "cpu") -> Network:
    """A TorchScript file on a device, in eval mode as it was frozen."""
    import torch

    with warnings.catch_warnings():  # the format is deprecated, and kept on purpose
        warnings.filterwarnings("ignore", message=r"`torch\.jit\.")
        network: Network = torch.jit.load(str(path), map_location=device)
    return network


def load_package(path: Path) -> Network:
    """The compiled model of an AOTInductor package."""
    import torch._inductor

    with _errors_only(*_COMPILER_LOGGERS):
        try:
            package: Any = torch._inductor.aoti_load_package(str(path))
        except RuntimeError as error:  # it does not say why it could not unpack the file
            folder = tempfile.gettempdir()
            if shutil.disk_usage(folder).free >= path.stat().st_size:
                raise
            raise ResourceLimit(
                f"no room in {folder} to unpack {path.name}",
                f"free {path.stat().st_size:,} bytes there, or set TMPDIR to a folder with more",
            ) from error
    network: Network = package
    return network


@contextmanager
def quiet_compiler() -> Iterator[None]:
    """What ``torch.compile`` says about other machines' hardware does not reach the user."""
    with _errors_only(*_COMPILER_LOGGERS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def compiling() -> Iterator[None]:
    """Within it, ``torch.compile`` makes code for as many batch sizes as are placed, quietly."""
    from torch._dynamo import config

    with quiet_compiler(), config.patch(recompile_limit=_RECOMPILE_LIMIT):
        yield


@contextmanager
def _errors_only(*names: str) -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
