"""``vgg-deploy embed``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vgg_deploy.cli.console import print_json, remark
from vgg_deploy.cli.options import (
    BundleArgument,
    JsonOption,
    complete,
    given_path,
    precision_of,
    target_of,
)
from vgg_deploy.errors import UsageError

if TYPE_CHECKING:
    from vgg_deploy.embed.targets import TargetName


def _targets() -> tuple[str, ...]:
    from vgg_deploy.embed.targets import TARGETS

    return TARGETS


def _precisions() -> tuple[str, ...]:
    from vgg_deploy.embed.write import PRECISIONS

    return PRECISIONS


def _one_target(given: list[str]) -> TargetName:
    if len(given) > 1:
        raise UsageError(
            f"one target at a time, not {' and '.join(given)}",
            "run embed once for each, with a folder of its own",
        )
    return target_of(given[0])


def embed(
    bundle: BundleArgument,
    target: Annotated[
        list[str],
        typer.Option(
            "--target",
            "-t",
            help="python, node, browser, c, openvino (C++) or triton.",
            metavar="<str>",
            autocompletion=complete(_targets),
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder of the app.", metavar="FOLDER", parser=given_path),
    ],
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            "-p",
            help="fp32, fp16 or int8: of the embedded file that the app gets.",
            autocompletion=complete(_precisions),
        ),
    ] = "fp32",
    test: Annotated[
        bool, typer.Option("--test", help="Also install, build and run the app's own test.")
    ] = False,
    update: Annotated[
        bool,
        typer.Option("--update", help="Replace the model of an app that is in the folder already."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a small, complete app around the bundle's embedded ONNX file.

    Example: vgg-deploy embed artifacts/fmnist --target node -o my-app
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.embed import EmbedOptions, embed_bundle

    options = EmbedOptions(
        target=_one_target(target), precision=precision_of(precision), test=test, update=update
    )
    written = embed_bundle(open_bundle(bundle), out, options)
    if as_json:
        print_json(written)
        return
    made = "replaced the model in" if update else "made"
    remark(f"{made} {out}: {written.title}; {'tested' if test else 'see README.md in it'}")
    for remedy in written.missing_tools:
        remark(f"to run it here: {remedy}")
