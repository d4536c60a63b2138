"""Train a network on a data set and make the bundle."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from vgg_deploy import jsonio
from vgg_deploy.bundle import MANIFEST, Bundle, Draft, create_bundle, open_bundle, refuse_existing
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.fashion_mnist import load_dataset
from vgg_deploy.environment import versions
from vgg_deploy.errors import VggDeployError
from vgg_deploy.libraries import import_torch
from vgg_deploy.model.checkpoint import input_spec, output_spec
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.spec import Head, ModelCard, ModelSpec
from vgg_deploy.train.options import TrainOptions
from vgg_deploy.train.outcome import EpochRow, RunPlan

KEY = "request"  # in made_by: digest of everything asked for


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """The network, the data and how to train."""

    arch: str = "vgg11"
    width: float = 0.25
    size: int = 64
    head: Head = "book"
    fc_width: int = 4096
    ceil_mode: bool = False
    data: str = "auto"
    data_dir: Path | None = None
    options: TrainOptions = field(default_factory=TrainOptions)


def train_bundle(
    root: Path,
    request: TrainRequest,
    watch: Watcher | None = None,
    *,
    replace: bool = False,
    reuse: bool = False,
) -> Bundle:
    """Train and make the bundle ``root``; the best epoch's weights become its checkpoint.

    With ``reuse`` a bundle whose checkpoint was made by the same request is kept.
    """
    watch = watch or Silent()
    import_torch()
    from vgg_deploy.train.loop import train
    from vgg_deploy.train.setup import card_for

    dataset = load_dataset(request.data, request.data_dir)
    card = card_for(_spec(request, dataset), request.options.chosen, dataset)
    key = _key(request, dataset)
    if reuse and (old := _valid(root, card, key)):
        watch.say(f"train: reused {old.checkpoint.path}, nothing it depends on has changed")
        return old
    refuse_existing(root, replace=replace)
    watch.say(f"train: {card.spec.arch} on {len(dataset.train):,} images, {dataset.source}")
    result = train(card, dataset, request.options, root / "training", _Told(watch))
    draft = Draft(
        format="checkpoint",
        precision="fp32",
        input=input_spec(card),
        output=output_spec(card),
        parent=None,
        made_by={**result.made_by, KEY: key},
    )
    bundle, _ = create_bundle(
        root, card, draft, lambda path: _copy(result.best_path, path), replace=replace
    )
    return bundle


class _Told:
    """Tells a watcher what the training loop tells a listener."""

    def __init__(self, watch: Watcher) -> None:
        self._watch = watch
        self._done = 0

    def on_start(self, plan: RunPlan, /) -> None:
        """Say what is going to happen."""
        self._watch.say(
            f"train: {plan.parameters:,} parameters on {plan.device} in {plan.precision}, "
            f"{plan.epochs} epochs, batch {plan.batch}"
        )
        self._watch.begin("train", plan.epochs * plan.train_images, "examples")
        self._watch.advance(plan.done_images)
        self._done = plan.done_images

    def on_note(self, text: str, /) -> None:
        """A line."""
        self._watch.say(f"train: {text}")

    def on_step(self, done_images: int, total_images: int, loss: float, /) -> None:
        """Move the bar."""
        del total_images, loss
        self._watch.advance(done_images - self._done)
        self._done = done_images

    def on_epoch(self, row: EpochRow, /) -> None:
        """A line per epoch."""
        self._watch.say(
            f"train: epoch {row.epoch}, loss {row.loss:.3f}, train {row.train_accuracy:.3f}, "
            f"test {row.test_accuracy:.4f}, {row.examples_per_second:,.0f} examples/s"
        )


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


def _key(request: TrainRequest, dataset: Dataset) -> str:
    """Digest of all that decides the weights: the request, the data, the versions."""
    parts = [
        jsonio.dumps(request, indent=None),
        f"{dataset.name} {len(dataset.train)}",
        json.dumps(versions("vgg-deploy", "numpy", "torch")),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _valid(root: Path, card: ModelCard, key: str) -> Bundle | None:
    if not (root / MANIFEST).exists():
        return None
    try:
        bundle = open_bundle(root)
        checkpoint = bundle.checkpoint
    except VggDeployError:
        return None
    same = bundle.card == card and checkpoint.made_by.get(KEY) == key
    return bundle if same and not bundle.problem(checkpoint) else None


def _spec(request: TrainRequest, dataset: Dataset) -> ModelSpec:
    return ModelSpec.named(
        request.arch,
        width=request.width,
        size=request.size,
        channels=dataset.train.images.shape[3],
        classes=len(dataset.labels),
        fc_width=request.fc_width,
        head=request.head,
        ceil_mode=request.ceil_mode,
    )
