"""Where text goes: results to stdout, everything else to stderr."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from vgg_deploy.errors import VggDeployError
    from vgg_deploy.pipeline.watch import Watcher
    from vgg_deploy.report.table import Table
    from vgg_deploy.stored import Keeping

_printed = threading.Event()
_PIPE_WIDTH = 160  # columns when nobody's terminal decides


def out() -> Console:
    """Console for results."""
    return _sized(_console(stderr=False))


def err() -> Console:
    """Console for progress and remarks."""
    return _sized(_console(stderr=True))


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class Patient(Console):
        """Goes on when its reader goes away: the command's verdict is still to come."""

        def on_broken_pipe(self) -> None:
            silence(self.file)

    return Patient(stderr=stderr, highlight=False)


def _sized(console: Console) -> Console:
    if not _on_terminal(console):
        console.width = max(console.width, _PIPE_WIDTH)
    return console


def _on_terminal(console: Console) -> bool:
    """Whether somebody's screen decides the width, and lines can be drawn over.

    To Rich a log is a terminal, too, where FORCE_COLOR is set, as in CI: that is for colours only.
    """
    return console.is_terminal and console.file.isatty()


def show(*tables: Table, whole: bool = False) -> None:
    """Print tables on stdout.

    With ``whole`` titles are not broken, and nobody's terminal is as wide as the table.
    """
    from vgg_deploy.report.console import fitting, needed_width, to_title

    console = out()
    for table in tables:
        if whole:
            console.print(to_title(table), soft_wrap=True)
            table = replace(table, title="")  # noqa: PLW2901
            if not _on_terminal(console):
                console.width = max(console.width, needed_width(console, table))
        console.print(fitting(console, table))


def print_json(value: object) -> None:
    """One JSON document on stdout: plain values and dataclasses, nested as they come.

    JSON knows no NaN and no infinity: they become null, as in stored results.
    """
    _printed.set()
    from pydantic_core import to_jsonable_python

    plain = _finite(to_jsonable_python(value, fallback=_path))
    with readers_may_go(sys.stdout):
        sys.stdout.write(json.dumps(plain, indent=2, allow_nan=False) + "\n")


def expect_json() -> None:
    """A command begins: it has printed no document yet."""
    _printed.clear()


def has_printed_json() -> bool:
    """Whether the command has printed its document."""
    return _printed.is_set()


def print_text(text: str) -> None:
    """A document on stdout, in UTF-8 whatever the terminal's encoding is, as a file has it."""
    with readers_may_go(sys.stdout):
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()


@contextmanager
def readers_may_go(stream: TextIO) -> Iterator[None]:
    """Whoever reads ``stream`` may stop, as ``head`` does; that changes no verdict."""
    try:
        yield
        stream.flush()
    except BrokenPipeError:
        silence(stream)


def silence(stream: IO[str]) -> None:
    """From now on nobody reads it; the interpreter does not complain about that when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def leave_closed_terminal() -> None:
    """Where the terminal of a standard stream was closed, nobody reads it any more, either.

    What still runs then, a training that saves or one that was disowned, goes on in silence.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            os.write(stream.fileno(), b"")
        except (OSError, ValueError) as error:  # ValueError: a stream that Python has closed
            if getattr(error, "errno", None) == errno.EIO:
                silence(stream)


def replace_closed() -> None:
    """A standard stream that the shell closed (``>&-``) leads nowhere; Python has None for it.

    In the order of their descriptors, so that no file that is opened later gets one of those.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            path = Path(os.devnull)
            nowhere = path.open(mode, encoding="utf-8", errors="backslashreplace")
            setattr(sys, name, nowhere)


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _path(value: object) -> str:
    """A path inside a bundle, which pydantic knows only under its own annotation."""
    if not isinstance(value, PurePath):
        raise TypeError(f"no JSON for {type(value).__name__}")
    return value.as_posix()


def remark(text: str) -> None:
    """One line on stderr."""
    console = err()
    console.print(text, markup=False, soft_wrap=not console.is_terminal)


def settle(verdict: VggDeployError | None, keeping: Keeping) -> None:
    """Raise what shown results stand for; where that is nothing, why they could not be stored."""
    if verdict and keeping.error:
        remark(f"not stored: {keeping.error.cause}")
    if error := verdict or keeping.error:
        raise error


@contextmanager
def watching() -> Iterator[Watcher]:
    """A live progress line on stderr while the block runs."""
    from vgg_deploy.cli.progress import RichWatcher

    console = err()
    with RichWatcher(console, live=_on_terminal(console)) as watcher:
        yield watcher


def speaks() -> bool:
    """Whether this process is the only one, or the first of those that torchrun starts."""
    return "WORLD_SIZE" not in os.environ or os.environ.get("RANK", "0") == "0"


@contextmanager
def watching_one_of_many() -> Iterator[Watcher]:
    """The same where torchrun starts the command: rank 0 alone draws, as lines erase each other."""
    if not speaks():
        from vgg_deploy.pipeline.watch import Silent

        yield Silent()
        return
    with watching() as watch:
        yield watch
