"""``torch.compile`` as all who use it here do: quiet, for many shapes, its errors in one line."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from vgg_deploy.errors import BackendNotAvailable, ResourceLimit, first_line, says_ran_out

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
    """What ``torch.compile`` says about other machines' hardware does not reach the user."""
    with errors_only(*LOGGERS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
        if says_ran_out(str(error)):
            raise ResourceLimit(
                f"{what} could not compile: {said}",
                "free memory and disk, or set TMPDIR to a folder with more room",
            ) from error
        raise BackendNotAvailable(f"{what} could not compile: {said}", remedy) from error
