"""Which epoch becomes the bundle, and the images that are held out to choose it with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.test_loop import Recorder, of_accuracy, quick
from vgg_deploy.data.dataset import Dataset, held_out
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.errors import UsageError
from vgg_deploy.files import sha256_of
from vgg_deploy.model.checkpoint import load_model
from vgg_deploy.spec import ModelCard
from vgg_deploy.train import run as run_module
from vgg_deploy.train.loop import shown_and_held, train
from vgg_deploy.train.options import RunControl
from vgg_deploy.train.outcome import EpochRow, Silent


def test_best_is_not_overwritten_by_a_worse_epoch(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter((0.2, 0.6, 0.6, 0.1))
    monkeypatch.setattr(run_module, "evaluate", lambda *a: of_accuracy(next(accuracies)))
    digests: list[str] = []

    class Watch(Silent):
        def on_epoch(self, row: EpochRow, /) -> None:
            digests.append(sha256_of(tmp_path / "last.safetensors"))

    result = train(card, few, quick(epochs=4), tmp_path, Watch())
    assert result.best.epoch == 2
    assert sha256_of(result.best_path) == digests[1]
    assert sha256_of(result.last_path) == digests[3]
    assert len(set(digests)) == 4


def test_images_held_out_choose_the_epoch(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter((0.9, 0.2, 0.5, 0.6, 0.7, 0.4))  # test, then validation, of three epochs
    monkeypatch.setattr(run_module, "evaluate", lambda *a: of_accuracy(next(found)))
    result = train(card, few, quick(epochs=3, validation=0.1), tmp_path)
    assert (result.best.epoch, result.best.validation_accuracy) == (2, 0.6)
    assert result.best.test_accuracy == 0.5


@pytest.mark.parametrize("held", [0.0, 0.1])
def test_of_equally_accurate_epochs_the_one_of_lower_loss(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch, held: float
) -> None:
    """Of the same images; where those are equal, too, the first; and the same when gone on with."""
    chosen = [(0.6, 0.9), (0.6, 0.4), (0.6, 0.4), (0.6, 0.5), (0.5, 0.1)]
    told = [(0.9, 0.2), (0.9, 0.3), (0.9, 0.1), (0.9, 0.4), (0.9, 0.5)]
    pairs = [pair for both in zip(told, chosen, strict=True) for pair in both]
    found = iter(pairs if held else chosen)
    monkeypatch.setattr(run_module, "evaluate", lambda *a: of_accuracy(*next(found)))
    digests: list[str] = []

    class Watch(Silent):
        def on_epoch(self, row: EpochRow, /) -> None:
            digests.append(sha256_of(tmp_path / "last.safetensors"))
            if row.epoch == 3:
                raise KeyboardInterrupt

    options = quick(epochs=5, validation=held)
    with pytest.raises(KeyboardInterrupt):
        train(card, few, options, tmp_path, Watch())
    result = train(card, few, options, tmp_path, Watch(), RunControl(resume="must"))
    assert result.best.epoch == 2
    assert sha256_of(result.best_path) == digests[1]
    assert len(set(digests)) == 5


def test_images_held_out_are_not_trained_with(
    tmp_path: Path, card: ModelCard, few: Dataset
) -> None:
    watch = Recorder()
    cut_here = train(card, few, quick(validation=0.2), tmp_path / "a", watch)
    marked = held_out(few.train, 0.2, few.labels)
    rest, held = few.train.where(~marked), few.train.where(marked)
    alone = train(card, replace(few, train=rest), quick(), tmp_path / "b")
    own = train(card, replace(few, train=rest, validation=held), quick(), tmp_path / "c")
    assert len({sha256_of(r.last_path) for r in (cut_here, alone, own)}) == 1
    assert (watch.plans[0].train_images, watch.plans[0].validation_images) == (len(rest), len(held))
    assert cut_here.made_by["validation_images"] == str(len(held))
    row = own.best
    assert row.validation_accuracy == cut_here.best.validation_accuracy
    x = torch.from_numpy(preprocess(held.images, card.preprocessing))
    with torch.inference_mode():
        logits = load_model(own.best_path)(x).numpy()
    assert row.validation_accuracy == np.mean(logits.argmax(1) == held.labels)
    assert alone.best.validation_accuracy is None
    with pytest.raises(UsageError, match="validation split of its own"):
        train(card, replace(few, validation=held), quick(validation=0.2), tmp_path / "d")


def test_images_held_out_are_in_memory_once(card: ModelCard, few: Dataset) -> None:
    shown, held = shown_and_held(card, few, quick(validation=0.2), torch.device("cpu"))
    assert held
    assert len(shown) + len(held) == len(few.train)
    for images in (shown, held):
        assert np.shares_memory(images.pixels.numpy(), few.train.images)
