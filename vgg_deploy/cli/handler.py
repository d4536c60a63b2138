"""The one error handler: every way a command can end becomes an exit code and two lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vgg_deploy.cli.console import readers_may_go, replace_closed, silence
from vgg_deploy.cli.interrupt import remembered
from vgg_deploy.cli.plain import no_sign_fails
from vgg_deploy.errors import (
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    ResourceLimit,
    VggDeployError,
    from_os_error,
    says_out_of_memory,
)


def run(args: Sequence[str] | None) -> int:
    """Parse and run; never raises for what a user or a machine can do wrong."""
    words = list(sys.argv[1:] if args is None else args)
    debug = "--debug" in words
    replace_closed()
    no_sign_fails()
    try:
        with remembered():
            code = _invoke([word for word in words if word != "--debug"])
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except SystemExit as end:  # what Typer makes of a reader of its help that went away
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        silence(sys.stdout)
        return 0
    except Exception as error:
        if debug:
            _print_traceback(error)
        return _report(error)
    if code == EXIT_INTERRUPTED:
        _say("interrupted", "what was finished before is kept; run the command again")
    return code


def _invoke(words: list[str]) -> int:
    from vgg_deploy.cli.app import app

    code = app(args=words, prog_name="vgg-deploy", standalone_mode=False)
    with readers_may_go(sys.stdout):
        sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _report(error: Exception) -> int:
    known = _translated(error)
    if known is not None:
        _say(known.cause, known.remedy)
        return known.exit_code
    if hasattr(error, "format_message"):  # the command line parser's own errors
        return _usage(error)
    name = type(error).__name__
    text = next(iter(str(error).splitlines()), "")
    _say(f"internal error: {name}: {text}", "this is a bug; run again with --debug and report it")
    return EXIT_INTERNAL


def _translated(error: Exception) -> VggDeployError | None:
    if isinstance(error, VggDeployError):
        return error
    text = str(error)
    if isinstance(error, MemoryError) or says_out_of_memory(text):
        return ResourceLimit("not enough memory", "use a smaller --batch or a smaller model")
    if isinstance(error, OSError):
        return from_os_error(error, f"use {error.filename}" if error.filename else "go on")
    return None


def _usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "vgg-deploy")
    text = " ".join(str(error.format_message()).split())  # type: ignore[attr-defined]
    if not text:  # a bare `vgg-deploy`: the help was shown
        return 2
    _say(text.rstrip("."), f"see {command} --help")
    return int(getattr(error, "exit_code", 2))


def _say(cause: str, remedy: str) -> None:
    with readers_may_go(sys.stderr):
        print(f"vgg-deploy: error: {cause}\n  remedy: {remedy}", file=sys.stderr)  # noqa: T201


def _print_traceback(error: Exception) -> None:
    import traceback

    traceback.print_exception(error)
