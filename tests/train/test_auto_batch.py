"""Batches that do not fit: split, or refused with the size that does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.train.test_loop import Recorder, quick
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import ResourceLimit
from vgg_deploy.spec import ModelCard
from vgg_deploy.train import view
from vgg_deploy.train.auto_batch import is_out_of_memory
from vgg_deploy.train.loop import train
from vgg_deploy.train.store import Store, digest_of


class Notes(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def on_note(self, text: str, /) -> None:
        self.notes.append(text)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let a forward pass of more than so many images run out of memory."""
    plain = view.TrainingView.forward

    def limit(most: int) -> None:
        def forward(self: view.TrainingView, images: torch.Tensor) -> torch.Tensor:
            if len(images) > most:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ...")
            return plain(self, images)

        monkeypatch.setattr(view.TrainingView, "forward", forward)

    return limit


def test_the_largest_batch_that_fits_is_told(
    tmp_path: Path, card: ModelCard, few: Dataset, room: Callable[[int], None]
) -> None:
    room(11)
    with pytest.raises(ResourceLimit, match="not enough memory for 32 images") as caught:
        train(card, few, quick(), tmp_path)
    assert "--batch 8, or --auto-batch" in caught.value.remedy
    assert caught.value.exit_code == 6


def test_auto_batch_splits_and_trains_the_same(
    tmp_path: Path, card: ModelCard, few: Dataset, room: Callable[[int], None]
) -> None:
    train(card, few, quick(accumulate=4), tmp_path / "told")
    room(11)
    watch = Notes()
    train(card, few, quick(auto_batch=True), tmp_path / "found", watch)
    assert watch.plans[0].accumulate == 4
    assert watch.notes == [
        "a batch of 32 does not fit into memory: split into 4 pieces of at most 8"
    ]
    digests = []
    for name in ("told", "found"):
        newest = Store(tmp_path / name).newest()
        assert newest is not None
        digests.append(digest_of(newest[1]))
    assert digests[0] == digests[1]


def test_not_even_one(
    tmp_path: Path, card: ModelCard, few: Dataset, room: Callable[[int], None]
) -> None:
    room(0)
    with pytest.raises(ResourceLimit, match="not even one image"):
        train(card, few, quick(auto_batch=True), tmp_path)


def test_accumulated_gradients_are_those_of_the_batch(
    tmp_path: Path, card: ModelCard, few: Dataset
) -> None:
    one, three = Recorder(), Recorder()
    plain = {"recipe": "book", "lr": 0.5}
    no_dropout = _without_dropout(card)
    train(no_dropout, few, quick(**plain), tmp_path / "a", one)
    train(no_dropout, few, quick(**plain, accumulate=3), tmp_path / "b", three)
    assert [s[2] for s in three.steps] == pytest.approx([s[2] for s in one.steps], rel=1e-4)


def _without_dropout(card: ModelCard) -> ModelCard:
    from dataclasses import replace

    return replace(card, spec=replace(card.spec, dropout=0.0))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("shapes do not fit"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected
