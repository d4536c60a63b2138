"""Every error a user can meet: one tree, each class with its exit code.

VggDeployError
├── LimitNotMet           1   a limit that was asked for is not met
├── UsageError            2   the command line is wrong
├── RefusedInput          3   a file, folder, image or checkpoint that cannot be used
├── DigestMismatch        4   a file in a bundle is not the file its manifest describes
├── StaleEngine           5   an engine for another TensorRT, GPU or ONNX
├── ResourceLimit         6   disk, memory or time ran out
├── NotEquivalent         7   a backend's outputs differ from the reference
├── MeasurementNotValid   8   a timing breaks one of its own rules
├── TrainingDiverged      9   NaN or infinite loss
├── BackendNotAvailable  10   a library or a device is missing
└── Interrupted         130   a signal ended it, what was done is saved

Each error carries one line of cause and one of remedy; the CLI prints both and exits. Whatever else
is raised is an internal error, exit code 70.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar

EXIT_INTERNAL = 70  # EX_SOFTWARE of BSD's sysexits.h
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


# What would move a terminal's cursor, clear it or colour it: C0 but tab and newline, DEL, C1.
_CONTROLS = {n: f"\\x{n:02x}" for n in (*range(32), *range(127, 160)) if chr(n) not in "\t\n"}


def printable(text: str) -> str:
    """``text`` with control characters as escapes: a name from elsewhere commands no terminal."""
    return text.translate(_CONTROLS)


class VggDeployError(Exception):
    """Base of all errors that a user can act on: a cause, a remedy, an exit code."""

    exit_code: ClassVar[int] = EXIT_INTERNAL

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(cause)
        self.cause = printable(" ".join(cause.split()))  # one line each, whatever was put in
        self.remedy = printable(" ".join(remedy.split()))


class LimitNotMet(VggDeployError):
    """A condition of ``--fail-if`` holds, or nothing fits what ``choose`` was asked for."""

    exit_code = 1


class UsageError(VggDeployError):
    """The command line asks for something that does not exist or does not fit."""

    exit_code = 2


class RefusedInput(VggDeployError):
    """A file, folder, image or checkpoint that cannot be used."""

    exit_code = 3


class DigestMismatch(VggDeployError):
    """A file in a bundle is missing, truncated or edited since it was recorded."""

    exit_code = 4


class StaleEngine(VggDeployError):
    """An engine was built for another TensorRT, GPU or ONNX file."""

    exit_code = 5


class ResourceLimit(VggDeployError):
    """Disk, memory or time ran out."""

    exit_code = 6


class NotEquivalent(VggDeployError):
    """A backend's outputs differ from the reference by more than the tolerance."""

    exit_code = 7


class MeasurementNotValid(VggDeployError):
    """A timing breaks one of the rules that make it worth quoting."""

    exit_code = 8


class TrainingDiverged(VggDeployError):
    """The loss became NaN or infinite."""

    exit_code = 9


class BackendNotAvailable(VggDeployError):
    """A backend was asked for that cannot run on this machine."""

    exit_code = 10


class Interrupted(VggDeployError):
    """A signal ended long work after what was done had been saved."""

    exit_code = EXIT_INTERRUPTED


def unknown_choice(what: str, given: str, choices: Iterable[str]) -> UsageError:
    """Error for a name that is not in a list, with the nearest name as the remedy."""
    known = list(choices)
    near = [name for name in known if given and name.startswith(given)][:1]
    near = near or get_close_matches(given, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UsageError(f"unknown {what} {given!r}", f"{hint}known: {', '.join(known)}")


def and_more(names: Sequence[str], most: int = 3) -> str:
    """The first names of a list, and how many there are beyond them: ``a, b, c and 7 more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def counted(number: int, singular: str, plural: str | None = None) -> str:
    """``1 image``, ``1,200 images``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def from_os_error(error: OSError, doing: str) -> VggDeployError:
    """Translate an operating system error into one with a remedy.

    ``doing`` completes "could not ...", for example ``"write artifacts/x"``.
    """
    reason = error.strerror or str(error) or type(error).__name__
    cause = f"could not {doing}: {reason}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ResourceLimit(cause, "free some disk space or choose another folder with -o")
    if error.errno == errno.ENOMEM:
        return ResourceLimit(cause, "use a smaller batch or model, or close other programs")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return RefusedInput(cause, "choose a folder that you may write to, or change its rights")
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return RefusedInput(cause, "a file is where a folder is expected, or the other way round")
    if error.errno == errno.ELOOP:
        return RefusedInput(cause, "a link is where a file is expected, or links lead in a circle")
    more = "" if error.errno == errno.ENOENT else ", the disk and its rights"
    return RefusedInput(cause, f"check the path{more}")


@contextmanager
def os_errors(doing: str) -> Iterator[None]:
    """Within the block an ``OSError`` becomes the matching ``VggDeployError``."""
    try:
        yield
    except OSError as error:
        raise from_os_error(error, doing) from error


def by_the_system(error: VggDeployError) -> bool:
    """Whether the operating system refused, which says nothing of what a file holds."""
    return isinstance(error.__cause__, OSError)


# As C++, torch, ONNX Runtime's arena, cuBLAS, cuDNN (9: "…_DEVICE_ALLOCATION_FAILED"), CUDA and the
# loader of shared libraries say it; in lower case.
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "bad alloc",
    "out of memory",
    "out_of_memory",
    "outofmemory",
    "failed to allocate memory",
    "alloc_failed",
    "allocation_failed",
    "failed to map segment",
)


def says_out_of_memory(message: str) -> bool:
    """Whether it is memory, of the host or a GPU, that a library's message says was lacking."""
    said = message.lower()
    return any(sign in said for sign in _OUT_OF_MEMORY)


# As C and Python say it, ENOSPC and EDQUOT; in lower case.
_DISK_FULL = ("no space left on device", "disk quota exceeded")


def says_ran_out(message: str) -> bool:
    """Whether it is disk or memory that a message says was lacking."""
    said = message.lower()
    return says_out_of_memory(said) or any(sign in said for sign in _DISK_FULL)


def ran_out(error: BaseException | None) -> bool:
    """Whether an exception, or one that led to it, says that disk or memory ran out."""
    while error is not None:
        if isinstance(error, ResourceLimit | MemoryError) or says_ran_out(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def first_line(error: BaseException) -> str:
    """The first line of a library's message that says something; else the exception's name.

    A line that ends in a colon says it with the next one: torch's ``backend='inductor' raised:``.
    """
    lines = [line for line in map(str.strip, str(error).splitlines()) if line]
    last = next((place for place, line in enumerate(lines, 1) if line[-1] != ":"), len(lines))
    return " ".join(lines[:last]) or type(error).__name__


def require_file(path: Path, what: str) -> None:
    """Refuse a path that is not a readable, non-empty regular file."""
    if not path.exists():
        raise RefusedInput(f"{what} {path} does not exist", "check the path")
    if not path.is_file():
        raise RefusedInput(f"{what} {path} is not a file", "give the path of a file")
    if path.stat().st_size == 0:
        raise RefusedInput(f"{what} {path} is empty", "give a file with content")
