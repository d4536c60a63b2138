"""Train a VGG: epochs, checkpoints, metrics; stopped and resumed at any step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from vgg_deploy.data.dataset import Dataset, Split
from vgg_deploy.errors import Interrupted, UsageError, counted
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.auto_batch import fitting, refused
from vgg_deploy.train.distributed import World, joined, local_device
from vgg_deploy.train.epoch import evaluate
from vgg_deploy.train.hardware import choose_device, tuned
from vgg_deploy.train.identity import Identity, exact_context
from vgg_deploy.train.make import made_by, make_trainer
from vgg_deploy.train.options import RunControl, TrainOptions
from vgg_deploy.train.outcome import (
    BEST_FILE,
    LAST_FILE,
    METRICS_FILE,
    Listener,
    RunPlan,
    Silent,
    TrainResult,
    best_of,
)
from vgg_deploy.train.resume import resume
from vgg_deploy.train.run import Run
from vgg_deploy.train.setup import LAST_LAYER, place
from vgg_deploy.train.step import Images, Trainer
from vgg_deploy.train.stop import StopWish
from vgg_deploy.train.store import Store, digest_of

__all__ = ["BEST_FILE", "LAST_FILE", "METRICS_FILE", "Start", "train"]

_TOLD_ON = 1000  # test images that give the accuracy before the first step: enough to see it


@dataclass(frozen=True)
class Start:
    """Weights to begin with instead of random ones; shapes that differ are begun afresh."""

    state: Mapping[str, torch.Tensor]


def train(
    card: ModelCard,
    dataset: Dataset,
    options: TrainOptions,
    folder: Path,
    listener: Listener | None = None,
    control: RunControl | None = None,
    start: Start | None = None,
) -> TrainResult:
    """Train; ``folder`` gets metrics.jsonl, best.safetensors, last.safetensors, checkpoints/.

    Best is by accuracy on the validation split or on the images that ``options.validation``
    holds out; without either on the test split, as the book reports it, whose figure is then
    slightly optimistic; a lower loss on the same images decides a tie. Each file is replaced
    whole after an epoch. A signal saves a checkpoint after the current step and raises
    ``Interrupted``, a time limit ``ResourceLimit``; ``control.resume`` goes on from there.

    The same options, seed, device, thread count and torch give the same weights on a CPU,
    whether or not the run was stopped in between; on a GPU, and where three or more processes
    were stopped, they do with ``deterministic``.

    Raises ``TrainingDiverged`` at a NaN or infinite loss.
    """
    control = control or RunControl()
    device = local_device(choose_device(options.device))
    gpus = [device] if device.type == "cuda" else []
    with (
        joined(device) as world,
        torch.random.fork_rng(devices=gpus),
        tuned(device, deterministic=options.deterministic),
        StopWish(control.max_minutes) as stop,
    ):
        listener = (listener if world.main else None) or Silent()
        torch.manual_seed(options.seed)
        state = start.state if start else None
        trainer = make_trainer(card, options, device, world, state, profiled=control.profile)
        data, held = shown_and_held(card, dataset, options, device)
        _require_enough(len(data), world)
        identity = _identity(trainer, card, dataset, options, start)
        run = Run(
            trainer=trainer,
            data=data,
            test=Images(*place(dataset.test, card, device), files=_files(dataset.test)),
            validation=held,
            identity=identity,
            folder=folder,
            store=Store(folder),
            listener=listener,
            control=control,
            stop=stop,
        )
        resume(run, world)
        _fit_memory(run, options)
        if start and not run.progress.step:
            _tell_start(run, start)
        listener.on_start(_plan(run))
        with refused(run.trainer, data):
            run.epochs()
        return TrainResult(
            rows=tuple(run.rows),
            best=best_of(tuple(run.rows)),
            best_path=folder / BEST_FILE,
            last_path=folder / LAST_FILE,
            card=run.identity.card,
            made_by=made_by(
                run.trainer,
                run.contexts,
                card,
                dataset,
                options,
                len(data),
                len(held) if held else 0,
            ),
        )


def shown_and_held(
    card: ModelCard, dataset: Dataset, options: TrainOptions, device: torch.device
) -> tuple[Images, Images | None]:
    """The images to train with, and those that choose the best epoch, if there are any.

    Images that are held out stay where they are: no image is in memory twice.
    """
    split, own = dataset.train.take(options.max_images), dataset.validation
    if options.validation and own is not None:
        raise UsageError(
            f"{dataset.source} has a validation split of its own", "leave --validation out"
        )
    shown = Images(*place(split, card, device))
    if not options.validation:
        return shown, Images(*place(own, card, device)) if own else None
    marked = dataset.trained(options.max_images, options.validation)[: len(split)]
    trained = torch.from_numpy(marked).to(device)
    return shown.where(trained), shown.where(~trained)


def _files(split: Split) -> tuple[str, ...]:
    return tuple(origin.file for origin in split.origins)


def _require_enough(images: int, world: World) -> None:
    if world.size > 1 and images < 2 * world.size:
        raise UsageError(
            f"{counted(images, 'training image')} for {world.size} processes",
            f"use at most --nproc-per-node {max(1, images // 2)}, or more images",
        )


def _identity(
    trainer: Trainer, card: ModelCard, dataset: Dataset, options: TrainOptions, start: Start | None
) -> Identity:
    return Identity(
        card=card,
        options=options,
        data=dataset.fingerprint(),
        start=digest_of(start.state) if start else None,
        exact=exact_context(trainer) if options.deterministic else {},
    )


def _fit_memory(run: Run, options: TrainOptions) -> None:
    """With ``auto_batch`` split the batch until it fits."""
    if not options.auto_batch:
        return
    accumulate = fitting(run.trainer, run.data)
    if accumulate != run.trainer.accumulate:
        largest = -(-run.trainer.batch // (accumulate * run.trainer.world.size))
        run.listener.on_note(
            f"a batch of {run.trainer.batch} does not fit into memory: split into {accumulate} "
            f"pieces of at most {largest}"
        )
        run.accumulate(accumulate)


def _tell_start(run: Run, start: Start) -> None:
    """The accuracy to improve on; a last layer that begins afresh has none worth telling."""
    if not any(name.startswith(LAST_LAYER) for name in start.state):
        return
    trainer, images = run.trainer, run.test.first(_TOLD_ON)
    part = f" on the first {len(images):,} test images" if len(images) < len(run.test) else ""

    def between() -> None:  # of several processes none may stop alone: the first step does that
        if run.stop.signal and trainer.world.size == 1:
            raise Interrupted(
                f"stopped by {run.stop.signal} before the first step",
                "there was nothing to save yet: run the command again",
            )

    found = evaluate(trainer.deployed, images, trainer.preprocessing, trainer.world, between)
    run.listener.on_note(f"before the first step: test {found.accuracy:.4f}{part}")


def _plan(run: Run) -> RunPlan:
    trainer = run.trainer
    parameters = list(trainer.model.parameters())
    return RunPlan(
        device=trainer.device.type,
        precision=trainer.precision,
        epochs=trainer.epochs,
        train_images=len(run.data),
        test_images=len(run.test),
        validation_images=len(run.validation) if run.validation else 0,
        batch=trainer.batch,
        accumulate=trainer.accumulate,
        processes=trainer.world.size,
        parameters=sum(p.numel() for p in parameters),
        trained_parameters=sum(p.numel() for p in parameters if p.requires_grad),
        done_images=run.done_images,
        rows=tuple(run.rows),
        ema=trainer.averages.decay if trainer.averages else 0.0,
        compiled=run.identity.options.compile,
    )
