"""Make the trainer of a run, and say afterwards what it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import torch
from torch import nn

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import UsageError
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.averages import Averages
from vgg_deploy.train.compiled import compiled
from vgg_deploy.train.distributed import World, parallel
from vgg_deploy.train.hardware import choose_precision
from vgg_deploy.train.identity import VERSIONS, in_turn
from vgg_deploy.train.options import TrainOptions
from vgg_deploy.train.phases import Phases
from vgg_deploy.train.recipes import Recipe
from vgg_deploy.train.setup import begin_with, initial_model, make_optimiser
from vgg_deploy.train.standardised import standardise
from vgg_deploy.train.step import Trainer
from vgg_deploy.train.view import TrainingView


def make_trainer(
    card: ModelCard,
    options: TrainOptions,
    device: torch.device,
    world: World | None = None,
    start: Mapping[str, torch.Tensor] | None = None,
    *,
    profiled: bool = False,
) -> Trainer:
    """Network, optimiser and settings of a run; initial weights from torch's random numbers.

    ``UsageError`` for a batch that leaves a process without two images, ``BackendNotAvailable``
    where the network is to be compiled and cannot be.
    """
    recipe, world = _as_done(options.chosen, card, start), world or World()
    peak, batch = options.lr or recipe.lr, options.batch or recipe.batch
    if world.size > 1 and batch < 2 * world.size:
        raise UsageError(
            f"a batch of {batch} for {world.size} processes",
            f"use --batch {2 * world.size} or more: it is the batch of all together",
        )
    model = initial_model(card.spec, recipe)
    if start is not None:
        begin_with(model, start)
    if recipe.standardise:
        standardise(model)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    view: nn.Module = TrainingView(model, frozen=options.freeze == "features")
    if options.compile:
        view = compiled(
            view,
            profiled=profiled and device.type == "cpu",
            graphs=_replayed(options, device, world),
        )
    return Trainer(
        model=model,
        network=parallel(view, world, device, deterministic=options.deterministic),
        optimiser=make_optimiser(model, recipe, peak),
        recipe=recipe,
        init=_init(model, recipe, start),
        preprocessing=card.preprocessing,
        device=device,
        world=world,
        precision=choose_precision(options.precision, device),
        batch=batch,
        accumulate=options.accumulate,
        peak_lr=peak,
        epochs=options.epochs,
        seed=options.seed,
        phases=Phases(device),
        averages=Averages(model, options.ema) if options.ema else None,
    )


def _replayed(options: TrainOptions, device: torch.device, world: World) -> bool:
    """Whether a GPU may replay a compiled pass as a CUDA graph: the host enqueues too slowly else.

    Not where a gradient outlives its pass, or a batch is split until it fits: graphs keep memory.
    """
    alone = world.size == 1 and options.accumulate == 1 and not options.auto_batch
    return device.type == "cuda" and alone


def _as_done(recipe: Recipe, card: ModelCard, start: Mapping[str, torch.Tensor] | None) -> Recipe:
    """The recipe without what is not done to batch norm or to weights to begin with.

    Their preprocessing is theirs, too.
    """
    fresh = start is None
    return replace(
        recipe,
        standardise=recipe.standardise and fresh and not card.spec.batch_norm,
        normalise=recipe.normalise and fresh,
    )


def _init(model: VGG, recipe: Recipe, start: Mapping[str, torch.Tensor] | None) -> str:
    """Where the weights began, for people."""
    if start is None:
        return recipe.init
    state = model.state_dict()
    afresh = any(key not in start or start[key].shape != state[key].shape for key in state)
    return f"from weights, the last layer {recipe.init}" if afresh else "from weights"


def made_by(
    trainer: Trainer,
    contexts: Sequence[Mapping[str, str]],
    card: ModelCard,
    dataset: Dataset,
    options: TrainOptions,
    images: int,
    validation: int,
) -> Mapping[str, str]:
    """Every option that shaped the weights, as text; of the recipe what was done.

    ``contexts`` are those of the run in turn.
    """
    recipe = {f"recipe_{k}": str(v) for k, v in asdict(trainer.recipe).items() if k != "name"}
    recipe["recipe_init"] = trainer.init
    chosen = {
        "command": "train",
        "recipe": trainer.recipe.name,
        "epochs": str(options.epochs),
        "batch": str(trainer.batch),
        "accumulate": str(trainer.accumulate),
        "lr": str(trainer.peak_lr),
        "seed": str(options.seed),
        "device": in_turn(contexts, "device"),
        "training_precision": in_turn(contexts, "precision"),
        "threads": in_turn(contexts, "threads"),
        "processes": in_turn(contexts, "processes"),
        "deterministic": str(options.deterministic),
        "dataset": dataset.name,
        "train_images": str(images),
        "validation_images": str(validation),
        "dropout": str(card.spec.dropout),
    }
    if options.compile:
        chosen["compile"] = "True"
    if dataset.files:
        chosen["dataset_files"] = dataset.files
    if options.freeze:
        chosen["freeze"] = options.freeze
    if options.max_images:
        chosen["max_images"] = str(options.max_images)
    if options.validation:
        chosen["validation"] = str(options.validation)
    if options.ema:
        chosen["ema"] = str(options.ema)
    for replaced in ("recipe_lr", "recipe_batch", "recipe_dropout"):  # by what was really used
        del recipe[replaced]
    versions = {name: found for name in VERSIONS if (found := in_turn(contexts, name))}
    return {**recipe, **chosen, **versions}
