"""``torch.compile`` as all who use it here do: quiet, for many shapes, its errors in one line."""

from __future__ import annotations

import logging
import os
import re
import shlex
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from vgg_deploy.errors import (
    BackendNotAvailable,
    RefusedInput,
    ResourceLimit,
    first_line,
    os_errors,
    says_ran_out,
)
from vgg_deploy.files import shown, user_cache

_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_RECOMPILE_LIMIT = 64  # dynamo's 8 counts over all networks of a process
LOGGERS = ("torch.utils.cpp_extension", "torch._inductor")  # "No CUDA runtime is found"
# "CUDA out of memory.", "CUDA error: out of memory", "Triton Error [CUDA]: out of memory"
_GPU_IS_FULL = re.compile(r"cuda(?: error)?\]?:? out of memory", re.IGNORECASE)
_NEW_COMPILER = (
    "install a C++ compiler with C++20 and OpenMP (g++ 11 or newer), or point $CXX to one"
)


@contextmanager
def compiling() -> Iterator[None]:
    """Within it, ``torch.compile`` makes code for as many shapes as it meets, quietly."""
    from torch._dynamo import config

    with quiet_compiler(), config.patch(recompile_limit=_RECOMPILE_LIMIT):
        yield


@contextmanager
def quiet_compiler() -> Iterator[None]:
    """What ``torch.compile`` says about other machines' hardware does not reach the user.

    Its cache gets a path that the compiler is told whole, for this process and its children.
    """
    usual = os.environ.get(_CACHE) or tempfile.gettempdir()
    if not _is_whole(usual) and (place := _whole_cache()):
        os.environ[_CACHE] = str(place)
    with errors_only(*LOGGERS), warnings.catch_warnings(), _headers_where_they_can_be():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def compile_folder(beside: Path) -> Iterator[Path]:
    """The folder for what inductor makes: ``beside``, or one elsewhere that is gone afterwards."""
    places = (beside, Path(tempfile.gettempdir()), _whole_cache())
    place = next((p for p in places if p and _is_whole(p.resolve())), beside)
    if place is beside:
        yield beside.resolve()  # as the compiler will name it
        return
    with os_errors(f"write to {place}"):
        place.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=place)
    with folder as name:
        yield Path(name).resolve()


def _headers_where_they_can_be() -> AbstractContextManager[object]:
    """None are precompiled where the temporary folder, in which they lie, is no place for them."""
    from torch._inductor import config

    name = "cpp_cache_precompile_headers"  # not in every torch
    if _is_whole(tempfile.gettempdir()) or not hasattr(config, name):
        return nullcontext()
    patch: AbstractContextManager[object] = config.patch(name, False)
    return patch


def _is_whole(path: str | Path) -> bool:
    """Whether a path stays one word in inductor's calls of the compiler, which quote nothing."""
    name = os.path.abspath(path)  # noqa: PTH100
    try:
        return shlex.split(name) == [name]
    except ValueError:  # an open quote
        return False


def _whole_cache() -> Path | None:
    """A cache of ours; None where its path has a blank, too, or the user has no home."""
    with suppress(RefusedInput):
        if _is_whole(place := user_cache("inductor")):
            return place
    return None


@contextmanager
def errors_only(*names: str) -> Iterator[None]:
    """The loggers of these names say nothing below an error."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def compile_errors(
    what: str, remedy: str = _NEW_COMPILER, *, shrinks: bool = False
) -> Iterator[None]:
    """What inductor or the C++ compiler says becomes ``BackendNotAvailable``, in one line.

    ``ResourceLimit`` where it is memory or disk that they lacked. With ``shrinks`` a full GPU stays
    the error that it was, for a caller who tries a smaller batch then.
    """
    from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
    from torch._inductor.exc import CppCompileError, InductorError, InvalidCxxCompiler

    try:
        yield
    except (
        TorchDynamoException,
        FailOnRecompileLimitHit,
        InductorError,
        CppCompileError,
        InvalidCxxCompiler,
    ) as error:
        lines = str(error).splitlines()
        said = next((line.strip() for line in lines if "error:" in line), first_line(error))
        if _GPU_IS_FULL.search(str(error)):
            if shrinks:
                raise
            raise ResourceLimit(
                f"{what} could not compile: {said}",
                "use a smaller batch, or end other programs on this GPU",
            ) from error
        if not _is_whole(place := os.environ.get(_CACHE, "")):
            raise BackendNotAvailable(
                f"{what} could not compile: torch calls the compiler without quotes, and "
                f"{shown(place)} has a blank or a quote in it",
                "set XDG_CACHE_HOME to a folder whose path has none",
            ) from error
        if says_ran_out(str(error)):
            raise ResourceLimit(
                f"{what} could not compile: {said}",
                "free memory and disk, or set TMPDIR to a folder with more room",
            ) from error
        raise BackendNotAvailable(f"{what} could not compile: {said}", remedy) from error
