"""The one error handler: every way a command can end becomes an exit code and two lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from vgg_deploy.cli.console import (
    expect_json,
    has_printed_json,
    leave_closed_terminal,
    print_json,
    readers_may_go,
    replace_closed,
    silence,
    speaks,
)
from vgg_deploy.cli.interrupt import heard, remembered
from vgg_deploy.cli.plain import no_sign_fails
from vgg_deploy.errors import (
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    Interrupted,
    ResourceLimit,
    VggDeployError,
    from_os_error,
    says_out_of_memory,
)


class _Ending(NamedTuple):
    """How a command ends that does not succeed; without a cause nothing is said."""

    exit_code: int
    cause: str
    remedy: str


def _interrupted(words: Sequence[str]) -> _Ending:
    again = "run the command again"
    command = next((word for word in words if not word.startswith("-")), "")
    if command == "train" and "--resume" not in words:  # it refuses to drop a checkpoint
        again += ", with --resume if its training had begun"
    return _Ending(EXIT_INTERRUPTED, "interrupted", f"what was finished before is kept; {again}")


def run(args: Sequence[str] | None) -> int:
    """Parse and run; never raises for what a user or a machine can do wrong."""
    words = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in words
    replace_closed()
    no_sign_fails()
    expect_json()
    try:
        with remembered():
            code = _invoke([word for word in words if word != "--debug"])
    except KeyboardInterrupt:
        ending = _interrupted(words)
    except SystemExit as end:  # what Typer makes of a reader of its help that went away
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        silence(sys.stdout)
        return 0
    except Exception as error:
        if debug:
            _print_traceback(error)
        swallowed = heard() and not isinstance(error, Interrupted)
        ending = _interrupted(words) if swallowed else _ending_of(error)
    else:
        if code != EXIT_INTERRUPTED:  # what Typer makes of a Ctrl-C
            return code
        ending = _interrupted(words)
    _tell(ending, as_json="--json" in words)
    return ending.exit_code


def _invoke(words: list[str]) -> int:
    from vgg_deploy.cli.app import app

    code = app(args=words, prog_name="vgg-deploy", standalone_mode=False, obj=tuple(words))
    with readers_may_go(sys.stdout):
        sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _ending_of(error: Exception) -> _Ending:
    known = _translated(error)
    if known is not None:
        return _Ending(known.exit_code, known.cause, known.remedy)
    if hasattr(error, "format_message"):  # the command line parser's own errors
        return _usage(error)
    name = type(error).__name__
    text = next(iter(str(error).splitlines()), "")
    return _Ending(
        EXIT_INTERNAL,
        f"internal error: {name}: {text}",
        "this is a bug; run again with --debug and report it",
    )


def _translated(error: Exception) -> VggDeployError | None:
    if isinstance(error, VggDeployError):
        return error
    text = str(error)
    if isinstance(error, MemoryError) or says_out_of_memory(text):
        return ResourceLimit("not enough memory", "use a smaller --batch or a smaller model")
    if isinstance(error, OSError):
        return from_os_error(error, f"use {error.filename}" if error.filename else "go on")
    return None


def _usage(error: Exception) -> _Ending:
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "vgg-deploy")
    text = " ".join(str(error.format_message()).split())  # type: ignore[attr-defined]
    code = int(getattr(error, "exit_code", 2)) if text else 2  # a bare `vgg-deploy`: help was shown
    return _Ending(code, text.rstrip("."), f"see {command} --help")


def _tell(ending: _Ending, *, as_json: bool) -> None:
    """Two lines on stderr; with ``--json`` also a document, where stdout has none yet."""
    if not ending.cause:
        return
    leave_closed_terminal()
    with readers_may_go(sys.stderr):
        print(  # noqa: T201
            f"vgg-deploy: error: {ending.cause}\n  remedy: {ending.remedy}", file=sys.stderr
        )
    if as_json and not has_printed_json() and speaks():
        with suppress(OSError):  # stdout may be what failed
            print_json({"error": ending._asdict()})


def _print_traceback(error: Exception) -> None:
    import traceback

    traceback.print_exception(error)
