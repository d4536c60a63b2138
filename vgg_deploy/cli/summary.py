"""``vgg-deploy summary``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, show
from vgg_deploy.cli.options import (
    CeilOption,
    ChannelsOption,
    ClassesOption,
    FcWidthOption,
    HeadOption,
    HiddenOption,
    JsonOption,
    SizeOption,
    WidthOption,
    head_of,
)
from vgg_deploy.errors import UsageError
from vgg_deploy.files import word
from vgg_deploy.manifest import has_manifest
from vgg_deploy.spec import ARCHS, ModelSpec


def summary(
    arch: Annotated[
        str,
        typer.Argument(
            help="vgg11 … vgg19, *_bn, or blocks such as 1x16-1x32-2x64.",
            metavar="ARCH",
            autocompletion=lambda: list(ARCHS),
        ),
    ],
    width: WidthOption = 1.0,
    size: SizeOption = 224,
    channels: ChannelsOption = 3,
    classes: ClassesOption = 1000,
    head: HeadOption = "book",
    fc_width: FcWidthOption = 4096,
    hidden: HiddenOption = 2,
    ceil_mode: CeilOption = False,
    versus: Annotated[
        str | None, typer.Option(help="Show another network beside it: alexnet, or an arch.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Shapes, parameters, multiply-adds and memory of a network, without weights or torch.

    Example: vgg-deploy summary vgg11 --width 0.25 --channels 1 --classes 10 --versus alexnet
    """
    from vgg_deploy.model.summary import against, summarise
    from vgg_deploy.report.summary_tables import summary_tables, versus_table

    if arch not in ARCHS and has_manifest(Path(arch)):
        raise UsageError(
            f"{arch} is a bundle, summary takes an architecture", f"vgg-deploy inspect {word(arch)}"
        )
    spec = ModelSpec.named(
        arch,
        width=width,
        size=size,
        channels=channels,
        classes=classes,
        fc_width=fc_width,
        hidden=hidden,
        head=head_of(head),
        ceil_mode=ceil_mode,
    )
    ours = summarise(spec)
    other = against(spec, versus) if versus is not None else None
    if as_json:
        print_json({"network": ours, "versus": other})
        return
    show(*([versus_table(ours, other)] if other else summary_tables(ours)))
