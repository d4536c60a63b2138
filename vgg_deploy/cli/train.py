"""``vgg-deploy train``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, remark, watching_one_of_many
from vgg_deploy.cli.options import (
    ArchOption,
    CeilOption,
    DataDirOption,
    FcWidthOption,
    HeadOption,
    HiddenOption,
    JsonOption,
    OutOption,
    ReplaceOption,
    SizeOption,
    WidthOption,
    complete,
    given_path,
    head_of,
    named_data,
    refuse_given,
)
from vgg_deploy.files import shown


def _recipes() -> Iterable[str]:
    from vgg_deploy.train.recipes import RECIPES

    return RECIPES


TrainDataOption = Annotated[
    str,
    typer.Option(
        help="fashion-mnist, sample (6,000 images, always there), auto, or the path of a folder "
        "of images with a folder per class.",
        metavar="<str>",
        parser=named_data,
    ),
]


_OF_THE_WEIGHTS = dict.fromkeys(
    ("arch", "width", "size", "head", "fc_width", "hidden", "ceil_mode"),
    "the network is that of the weights: leave it out, or train without --from",
)


def _resuming(words: Sequence[str] | None) -> str | None:
    """The same command with --resume; of torchrun's own options nothing is known."""
    if "WORLD_SIZE" in os.environ or not words:
        return None
    more = [] if "--resume" in words else ["--resume"]
    return shown(shlex.join(["vgg-deploy", *words, *more]))


def train(
    context: typer.Context,
    out: OutOption,
    arch: ArchOption = "vgg11",
    width: WidthOption = 0.25,
    size: SizeOption = 64,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 3,
    data: TrainDataOption = "auto",
    data_dir: DataDirOption = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="BUNDLE", help="Fine-tune this bundle's weights.", parser=given_path
        ),
    ] = None,
    freeze: Annotated[
        str | None, typer.Option(help="features: leave the convolutions of --from as they are.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="See vgg-deploy recipes. Without it modern, modern-bn or fine-tune, as it fits.",
            autocompletion=complete(_recipes),
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(help="Batch size of all processes; default: the recipe's.")
    ] = None,
    accumulate: Annotated[
        int, typer.Option(help="Split each batch into so many pieces: less memory.")
    ] = 1,
    auto_batch: Annotated[
        bool, typer.Option("--auto-batch", help="Split each batch as often as memory demands.")
    ] = False,
    lr: Annotated[float | None, typer.Option(help="Learning rate; default: the recipe's.")] = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip",
            help="Mirror images left to right at random, as letters must not be; default: the "
            "recipe's.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and augmentation.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        str, typer.Option(help="auto (bf16 where the hardware multiplies it), fp32 or bf16.")
    ] = "auto",
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Same options, same machine: same bits.")
    ] = False,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Let torch.compile make the network's kernels: for GPUs; slower on CPUs.",
        ),
    ] = False,
    max_images: Annotated[int | None, typer.Option(help="Train with the first so many.")] = None,
    validation: Annotated[
        float,
        typer.Option(help="Share of the training images held out to choose the best epoch with."),
    ] = 0.0,
    ema: Annotated[
        float,
        typer.Option(
            help="Test and save the weights' moving average, of this decay per step, such as "
            "0.999; 0: the weights themselves."
        ),
    ] = 0.0,
    head: HeadOption = "book",
    fc_width: FcWidthOption = 4096,
    hidden: HiddenOption = 2,
    ceil_mode: CeilOption = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was interrupted.")
    ] = False,
    save_every: Annotated[
        float, typer.Option(help="Minutes between checkpoints; 0: after every step.")
    ] = 10.0,
    max_minutes: Annotated[
        float | None, typer.Option(help="Save and stop after so long (exit 6); then --resume.")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say where the time of a step goes.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard event files.")
    ] = False,
    replace: ReplaceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a VGG on Fashion-MNIST or a folder of images; the best epoch becomes a bundle.

    Example: vgg-deploy train --arch vgg11 --width 0.25 --size 64 --epochs 3 -o artifacts/fmnist
    """
    from vgg_deploy.pipeline.request import TrainRequest
    from vgg_deploy.pipeline.train import train_process
    from vgg_deploy.train.options import RunControl, TrainOptions
    from vgg_deploy.train.recipes import default_recipe

    if start is not None:
        refuse_given(context, _OF_THE_WEIGHTS, "cannot be chosen with --from")
    options = TrainOptions(
        recipe=default_recipe(arch, fine_tune=start is not None) if recipe is None else recipe,
        epochs=epochs,
        batch=batch,
        accumulate=accumulate,
        auto_batch=auto_batch,
        lr=lr,
        seed=seed,
        device=device,
        precision=precision,
        deterministic=deterministic,
        compile=compiled,
        max_images=max_images,
        validation=validation,
        ema=ema,
        flip=flip,
        freeze=freeze,
    )
    request = TrainRequest(
        arch=arch,
        width=width,
        size=size,
        head=head_of(head),
        fc_width=fc_width,
        hidden=hidden,
        ceil_mode=ceil_mode,
        data=data,
        data_dir=data_dir,
        start=start,
        options=options,
    )
    control = RunControl(
        save_every=save_every,
        max_minutes=max_minutes,
        resume="must" if resume else "no",
        profile=profile,
        tensorboard=tensorboard,
        again=_resuming(context.obj),
    )
    with watching_one_of_many() as watch:
        bundle = train_process(out, request, watch, replace=replace, control=control)
    if bundle is None:  # another process speaks
        return
    if as_json:
        print_json(bundle.manifest)
    else:
        remark(f"made {out}")
