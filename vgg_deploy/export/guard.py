"""Around calls into torch: no chatter reaches the user, and failures get a remedy."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from vgg_deploy.errors import BackendNotAvailable, ResourceLimit

_FULL = re.compile(r"(PytorchStreamWriter|unexpected pos|No space left)", re.IGNORECASE)
_MEMORY = re.compile(r"(DefaultCPUAllocator|not enough memory|can't allocate)", re.IGNORECASE)


@contextmanager
def quiet(*loggers: str, warning: str = "", category: type[Warning] = Warning) -> Iterator[None]:
    """Hide one kind of warning, and all that the named loggers say below an error."""
    names = [logging.getLogger(name) for name in loggers]
    levels = [logger.level for logger in names]
    with warnings.catch_warnings():
        if warning:
            warnings.filterwarnings("ignore", message=warning, category=category)
        try:
            for logger in names:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(names, levels, strict=True):
                logger.setLevel(level)


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


@contextmanager
def imports(what: str) -> Iterator[None]:
    """A library that is not installed becomes ``BackendNotAvailable``."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise BackendNotAvailable(
            f"{what} needs {error.name}, which is not installed",
            'pip install "vgg-deploy[torch]"',
        ) from error


def _no_memory(doing: str) -> ResourceLimit:
    return ResourceLimit(
        f"could not {doing}: memory ran out", "close other programs or use a smaller network"
    )
