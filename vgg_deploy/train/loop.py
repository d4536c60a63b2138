"""Train a VGG: epochs, checkpoints, metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from vgg_deploy import environment, jsonio
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import TrainingDiverged
from vgg_deploy.files import atomic, write_text
from vgg_deploy.model.checkpoint import save_checkpoint
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.epoch import Images, Trainer, evaluate, require_finite, train_epoch
from vgg_deploy.train.hardware import choose_device, choose_precision, tuned
from vgg_deploy.train.options import EpochRow, Listener, RunPlan, Silent, TrainOptions, TrainResult
from vgg_deploy.train.setup import initial_model, make_optimiser, place

METRICS_FILE = "metrics.jsonl"
BEST_FILE = "best.safetensors"
LAST_FILE = "last.safetensors"


def train(
    card: ModelCard,
    dataset: Dataset,
    options: TrainOptions,
    folder: Path,
    listener: Listener | None = None,
) -> TrainResult:
    """Train from scratch; ``folder`` gets metrics.jsonl, best.safetensors, last.safetensors.

    Best is by accuracy on the test split, as the book reports it: there is no third split, so
    this figure is slightly optimistic. Each file is replaced whole after an epoch, so that
    Ctrl-C and errors leave those of the last finished epoch.

    The same options, seed, device, thread count and torch give the same weights on a CPU.

    Raises ``TrainingDiverged`` at a NaN or infinite loss.
    """
    listener = listener or Silent()
    device = choose_device(options.device)
    gpus = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus), tuned(device):
        torch.manual_seed(options.seed)
        trainer = make_trainer(card, options, device)
        data = Images(*place(dataset.train.take(options.max_images), card, device))
        test = Images(*place(dataset.test, card, device))
        listener.on_start(_plan(trainer, data, test))
        rows = _epochs(trainer, card, (data, test), options.seed, folder, listener)
    return TrainResult(
        rows=tuple(rows),
        best=_best(rows),
        best_path=folder / BEST_FILE,
        last_path=folder / LAST_FILE,
        made_by=_made_by(trainer, card, dataset, options, len(data)),
    )


def make_trainer(card: ModelCard, options: TrainOptions, device: torch.device) -> Trainer:
    """Network, optimiser and settings of a run; initial weights from torch's random numbers."""
    recipe = options.chosen
    peak = recipe.lr if options.lr is None else options.lr
    model = initial_model(card.spec, recipe)
    model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Trainer(
        model=model,
        optimiser=make_optimiser(model, recipe, peak),
        recipe=recipe,
        preprocessing=card.preprocessing,
        device=device,
        precision=choose_precision(options.precision, device),
        batch=options.batch or recipe.batch,
        peak_lr=peak,
        epochs=options.epochs,
    )


def _plan(trainer: Trainer, data: Images, test: Images) -> RunPlan:
    return RunPlan(
        device=trainer.device.type,
        precision=trainer.precision,
        epochs=trainer.epochs,
        train_images=len(data),
        test_images=len(test),
        batch=trainer.batch,
        parameters=sum(p.numel() for p in trainer.model.parameters()),
    )


def _epochs(
    trainer: Trainer,
    card: ModelCard,
    splits: tuple[Images, Images],
    seed: int,
    folder: Path,
    listener: Listener,
) -> list[EpochRow]:
    data, _ = splits
    order = torch.Generator().manual_seed(seed)
    rows: list[EpochRow] = []
    total = trainer.epochs * len(data)
    for epoch in range(trainer.epochs):
        before = epoch * len(data)

        def tell(done: int, loss: float | None, before: int = before) -> None:
            listener.on_step(before + done, total, loss)

        try:
            row = _one_epoch(trainer, splits, epoch, order, tell)
        except TrainingDiverged as error:
            raise _with_checkpoint(error, trainer.peak_lr, rows, folder) from error
        _save(trainer.model, card, [*rows, row], folder)
        rows.append(row)
        listener.on_epoch(row)
    return rows


def _one_epoch(
    trainer: Trainer,
    splits: tuple[Images, Images],
    epoch: int,
    order: torch.Generator,
    tell: Callable[[int, float | None], None],
) -> EpochRow:
    data, test = splits
    start = time.perf_counter()
    loss, accuracy, lr = train_epoch(trainer, data, epoch, order, tell)
    trained = time.perf_counter()  # the losses were read, so a GPU has finished, too
    _require_finite_weights(trainer.model, epoch)
    test_loss, test_accuracy = evaluate(trainer.model, test, trainer.preprocessing)
    require_finite(test_loss, "test loss", f"after epoch {epoch + 1}")
    return EpochRow(
        epoch=epoch + 1,
        loss=loss,
        train_accuracy=accuracy,
        test_loss=test_loss,
        test_accuracy=test_accuracy,
        examples_per_second=len(data) / (trained - start),
        seconds=time.perf_counter() - start,
        lr=lr,
    )


def _require_finite_weights(model: VGG, epoch: int) -> None:
    """The last update of an epoch is seen by no loss, so the weights themselves are looked at."""
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            require_finite(
                float("nan"), f"weights of {name}", f"in the last step of epoch {epoch + 1}"
            )


def _save(model: VGG, card: ModelCard, rows: list[EpochRow], folder: Path) -> None:
    """Files first, then the metrics that speak of them."""
    state = model.state_dict()
    names = [LAST_FILE, BEST_FILE] if _best(rows) is rows[-1] else [LAST_FILE]
    for name in names:
        with atomic(folder / name) as partial:
            save_checkpoint(partial, card, state)
    lines = (jsonio.dumps(row, indent=None) + "\n" for row in rows)
    write_text(folder / METRICS_FILE, "".join(lines))


def _best(rows: list[EpochRow]) -> EpochRow:
    return max(rows, key=lambda row: row.test_accuracy)  # of equals the first


def _with_checkpoint(
    error: TrainingDiverged, lr: float, rows: list[EpochRow], folder: Path
) -> TrainingDiverged:
    """The same error with what to do about it in this run."""
    kept = (
        f"; the checkpoint of epoch {rows[-1].epoch} is {folder / LAST_FILE}"
        if rows
        else "; no epoch was finished, so there is no checkpoint of this run"
    )
    return TrainingDiverged(error.cause, f"lower --lr (it was {lr:g}){kept}")


def _made_by(
    trainer: Trainer, card: ModelCard, dataset: Dataset, options: TrainOptions, images: int
) -> Mapping[str, str]:
    """Every option that shaped the weights, as text."""
    recipe = {f"recipe_{k}": str(v) for k, v in asdict(trainer.recipe).items() if k != "name"}
    chosen = {
        "command": "train",
        "recipe": trainer.recipe.name,
        "epochs": str(options.epochs),
        "batch": str(trainer.batch),
        "lr": f"{trainer.peak_lr:g}",
        "seed": str(options.seed),
        "device": trainer.device.type,
        "training_precision": trainer.precision,
        "threads": str(torch.get_num_threads()),
        "dataset": dataset.name,
        "train_images": str(images),
        "dropout": f"{card.spec.dropout:g}",
    }
    for replaced in ("recipe_lr", "recipe_batch", "recipe_dropout"):  # by what was really used
        del recipe[replaced]
    return {**recipe, **chosen, **environment.versions("vgg-deploy", "numpy", "torch")}
