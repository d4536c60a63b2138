"""Around calls into torch: no chatter reaches the user, and failures get a remedy."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from vgg_deploy.errors import ResourceLimit, os_errors
from vgg_deploy.inductor import errors_only
from vgg_deploy.libraries import INSTALL_TORCH, not_imported

_FULL = re.compile(r"(PytorchStreamWriter|unexpected pos|No space left)", re.IGNORECASE)
_MEMORY = re.compile(r"(DefaultCPUAllocator|not enough memory|can't allocate)", re.IGNORECASE)


@contextmanager
def quiet(
    *loggers: str, warning: Mapping[str, type[Warning]] = MappingProxyType({})
) -> Iterator[None]:
    """Hide the warnings that match a pattern, and what the named loggers say below an error."""
    with errors_only(*loggers), warnings.catch_warnings():
        for message, category in warning.items():
            warnings.filterwarnings("ignore", message=message, category=category)
        yield


@contextmanager
def resources(doing: str) -> Iterator[None]:
    """torch's own errors about a full disk or memory become ``ResourceLimit``.

    ``doing`` completes "could not ...".
    """
    try:
        yield
    except MemoryError as error:
        raise _no_memory(doing) from error
    except RuntimeError as error:
        if _MEMORY.search(str(error)):
            raise _no_memory(doing) from error
        if _FULL.search(str(error)):
            raise ResourceLimit(
                f"could not {doing}: the disk took no more bytes",
                "free some disk space or use a bundle in another folder",
            ) from error
        raise


def claim_space(folder: Path, size: int, doing: str) -> None:
    """Take ``size`` bytes of disk in ``folder`` and give them back; ``ResourceLimit`` if refused.

    Not only to say so before minutes of work: when a write of torch's archives fails, the
    destructor of its writer throws and the process dies of SIGABRT, whatever Python catches.
    """
    with os_errors(f"{doing}, which needs {size / 1e6:,.0f} MB of disk in {folder}"):
        if sys.platform != "linux":
            if shutil.disk_usage(folder).free < size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return
        with tempfile.TemporaryFile(dir=folder) as file:
            try:
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # the file system cannot
                    raise


@contextmanager
def imports(what: str) -> Iterator[None]:
    """A library that is absent or does not load becomes ``BackendNotAvailable``."""
    try:
        yield
    except ImportError as error:
        name = error.name or "a library"
        raise not_imported(what, name, error, INSTALL_TORCH) from error


def _no_memory(doing: str) -> ResourceLimit:
    return ResourceLimit(
        f"could not {doing}: memory ran out", "close other programs or use a smaller network"
    )
