"""The Typer application: one command per file, one list that names them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Annotated

import typer

from vgg_deploy import __version__
from vgg_deploy.cli import (
    bench,
    build,
    choose,
    diff,
    doctor,
    embed,
    export,
    inspect,
    load,
    plan_capacity,
    predict,
    recipes,
    report,
    selfcheck,
    summary,
    train,
    verify,
)
from vgg_deploy.cli import run as run_command
from vgg_deploy.environment import threads

app = typer.Typer(
    name="vgg-deploy",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # the one handler in handler.py prints errors
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "From a VGG checkpoint to deployable files that are proven equivalent, honestly timed and "
        "ready to embed.\n\nA [bold]bundle[/bold] is a folder: train, load and run make it, most "
        "other commands take it."
    ),
    epilog="Example: vgg-deploy run --preset fashion-mnist",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vgg-deploy {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    del version, debug  # --debug may stand anywhere, so handler.py takes it off the line first


COMMANDS: dict[str, Callable[..., None]] = {
    "run": run_command.run,
    "train": train.train,
    "recipes": recipes.recipes,
    "load": load.load,
    "summary": summary.summary,
    "export": export.export,
    "build": build.build,
    "verify": verify.verify,
    "bench": bench.bench,
    "diff": diff.diff,
    "choose": choose.choose,
    "embed": embed.embed,
    "predict": predict.predict,
    "selfcheck": selfcheck.selfcheck,
    "inspect": inspect.inspect,
    "plan-capacity": plan_capacity.plan_capacity,
    "report": report.report,
    "doctor": doctor.doctor,
}

_COMPUTING = ("run", "train", "export", "verify", "bench", "predict", "selfcheck")


def _with_threads(command: Callable[..., None]) -> Callable[..., None]:
    """Refuses a wrong ``OMP_NUM_THREADS`` before a library is loaded, which would read it, too."""

    @wraps(command)
    def checked(**options: object) -> None:
        threads()
        command(**options)

    return checked


for _name, _command in COMMANDS.items():
    app.command(_name)(_with_threads(_command) if _name in _COMPUTING else _command)
