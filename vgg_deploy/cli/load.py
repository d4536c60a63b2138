"""``vgg-deploy load``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    key: Annotated[
        str | None,
        typer.Option(help="Name of the weights in a file that holds several, such as model_ema."),
    ] = None,
    arch: Annotated[
        str | None, typer.Option(help="Architecture of a file that does not say it itself.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Input height and width in pixels. Default: as the weights tell."),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Refuse weights with another number of classes.")
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(help="book, torchvision or gap. Default: as the weights tell."),
    ] = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(
            help="Of a file that does not say it itself. imagenet: crop and normalise as "
            "torchvision does (3 channels: the default); scale: resize to a square, 0..1."
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(help="Instead of its mean, one per channel: 0.5,0.5,0.5.", metavar="NUMBERS"),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(help="Instead of its standard deviation: 0.5,0.5,0.5.", metavar="NUMBERS"),
    ] = None,
    resize: Annotated[
        str | None,
        typer.Option(
            help="Instead of its resize: pixels of the shorter side before a centre crop of "
            "--size, or square for a resize of both sides without a crop.",
            metavar="PIXELS",
        ),
    ] = None,
    value_range: Annotated[
        str | None,
        typer.Option(
            help="What black and white are before mean and deviation: 0,1 unless told otherwise.",
            metavar="NUMBERS",
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
    from vgg_deploy.pipeline.asked_preprocessing import asked_of
    from vgg_deploy.pipeline.load import LoadOptions, load_bundle

    words = {
        "preprocessing": preprocessing,
        "mean": mean,
        "std": std,
        "resize": resize,
        "value_range": value_range,
    }
    options = LoadOptions(
        weights=weights,
        key=key,
        arch=arch,
        size=size,
        classes=classes,
        head=head_of(head) if head is not None else None,
        labels=labels,
        ceil_mode=ceil_mode,
        preprocessing=asked_of(words),
    )
    bundle = load_bundle(out, options, replace=replace, say=remark)
    if as_json:
        print_json(bundle.manifest)
