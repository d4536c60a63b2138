"""``vgg-deploy load``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from vgg_deploy.cli.console import print_json, remark
from vgg_deploy.cli.options import CeilOption, JsonOption, OutOption, ReplaceOption, head_of


def load(
    weights: Annotated[
        str,
        typer.Option(
            help="A torchvision name such as VGG16_Weights.IMAGENET1K_V1, or a .safetensors or "
            ".pth file."
        ),
    ],
    out: OutOption,
    arch: Annotated[
        str | None, typer.Option(help="Architecture of a file that does not say it itself.")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Input height and width in pixels.")] = None,
    classes: Annotated[
        int | None, typer.Option(help="Refuse weights with another number of classes.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="book, torchvision or gap.")] = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(
            help="Of a file that does not say it itself. imagenet: crop and normalise as "
            "torchvision does (3 channels: the default); scale: resize to a square, 0..1."
        ),
    ] = None,
    ceil_mode: CeilOption = False,
    labels: Annotated[Path | None, typer.Option(help="Text file, one label per line.")] = None,
    replace: ReplaceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a bundle from torchvision's weights or from a local file.

    Example: vgg-deploy load --weights VGG16_Weights.IMAGENET1K_V1 -o artifacts/vgg16
    """
    from vgg_deploy.pipeline.load import (
        ASSUMED,
        SIZE,
        LoadOptions,
        PreprocessingName,
        load_bundle,
    )
    from vgg_deploy.report.model_tables import preprocessing_text

    options = LoadOptions(
        weights=weights,
        arch=arch,
        size=size,
        classes=classes,
        head=head_of(head) if head is not None else None,
        labels=labels,
        ceil_mode=ceil_mode,
        preprocessing=cast("PreprocessingName | None", preprocessing),
    )
    bundle = load_bundle(out, options, replace=replace)
    if as_json:
        print_json(bundle.manifest)
    else:
        spec = bundle.card.spec
        if bundle.checkpoint.made_by.get(SIZE) == ASSUMED:
            remark(
                f"the weights do not tell their input size: {spec.size} px was taken, see --size"
            )
        remark(
            f"made {out}: {spec.arch}, {spec.size} px, {spec.classes} classes; "
            f"images: {preprocessing_text(bundle.card.preprocessing)}"
        )
