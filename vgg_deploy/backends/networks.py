"""Loading what torch's backends run: a program, a script, a package."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgg_deploy.errors import ResourceLimit
from vgg_deploy.inductor import LOGGERS, errors_only

if TYPE_CHECKING:
    import torch

Network = Callable[["torch.Tensor"], "torch.Tensor"]


def load_program(path: Path) -> Network:
    """The module of an exported program (``.pt2``)."""
    import torch

    with errors_only("torch.export"):  # a corrupt file is logged with a traceback, then raised
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

    with errors_only(*LOGGERS):
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
