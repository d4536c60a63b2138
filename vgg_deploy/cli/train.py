"""``vgg-deploy train``."""

from __future__ import annotations

from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, remark, watching
from vgg_deploy.cli.options import (
    ArchOption,
    CeilOption,
    DataDirOption,
    DataOption,
    FcWidthOption,
    HeadOption,
    JsonOption,
    OutOption,
    ReplaceOption,
    SizeOption,
    WidthOption,
    head_of,
)


def train(
    out: OutOption,
    arch: ArchOption = "vgg11",
    width: WidthOption = 0.25,
    size: SizeOption = 64,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 3,
    data: DataOption = "auto",
    data_dir: DataDirOption = None,
    recipe: Annotated[str, typer.Option(help="modern, or book for §7.2 as printed.")] = "modern",
    batch: Annotated[int | None, typer.Option(help="Batch size; default: the recipe's.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate; default: the recipe's.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    head: HeadOption = "book",
    fc_width: FcWidthOption = 4096,
    ceil_mode: CeilOption = False,
    replace: ReplaceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a VGG on Fashion-MNIST and make a bundle of the best epoch.

    Example: vgg-deploy train --arch vgg11 --width 0.25 --size 64 --epochs 3 -o artifacts/fmnist
    """
    from vgg_deploy.pipeline.train import TrainRequest, train_bundle
    from vgg_deploy.train.options import TrainOptions

    options = TrainOptions(
        recipe=recipe,
        epochs=epochs,
        batch=batch,
        lr=lr,
        seed=seed,
        precision=precision,
    )
    request = TrainRequest(
        arch=arch,
        width=width,
        size=size,
        head=head_of(head),
        fc_width=fc_width,
        ceil_mode=ceil_mode,
        data=data,
        data_dir=data_dir,
        options=options,
    )
    with watching() as watch:
        bundle = train_bundle(out, request, watch, replace=replace)
    if as_json:
        print_json(bundle.manifest)
    else:
        remark(f"made {out}")
