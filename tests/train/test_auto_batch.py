"""Batches that do not fit: split, or refused with the size that does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from weakref import WeakSet

import pytest
import torch
from torch import distributed as dist

from tests.train.test_loop import Recorder, quick
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import ResourceLimit
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import ModelCard
from vgg_deploy.train import auto_batch, view
from vgg_deploy.train.auto_batch import fitting, is_out_of_memory, refused
from vgg_deploy.train.distributed import World
from vgg_deploy.train.epoch import evaluate
from vgg_deploy.train.loop import train
from vgg_deploy.train.make import make_trainer
from vgg_deploy.train.setup import place
from vgg_deploy.train.step import Images, Trainer
from vgg_deploy.train.store import Store, digest_of


class Notes(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def on_note(self, text: str, /) -> None:
        self.notes.append(text)


class Held:
    """What a forward pass has on the device."""


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let a forward pass run out of memory with more than so many images, or beside another."""
    plain = view.TrainingView.forward
    present: WeakSet[Held] = WeakSet()

    def limit(most: int) -> None:
        def forward(self: view.TrainingView, images: torch.Tensor) -> torch.Tensor:
            mine = Held()
            present.add(mine)
            if len(images) > most or len(present) > 1:
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


def test_the_batch_that_failed_is_not_the_remedy(trainer: Trainer, data: Images) -> None:
    """Another program may have had the memory for a moment."""
    with pytest.raises(ResourceLimit) as caught, refused(trainer, data):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert caught.value.remedy.startswith("16 at once would fit: --batch 16,")


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


@pytest.fixture
def trainer(card: ModelCard) -> Trainer:
    return make_trainer(card, quick(), torch.device("cpu"))


@pytest.fixture
def data(card: ModelCard, few: Dataset) -> Images:
    return Images(*place(few.train, card, torch.device("cpu")))


def test_no_process_waits_for_one_that_nothing_fits(
    trainer: Trainer, data: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    met: list[int] = []
    monkeypatch.setattr(auto_batch, "_fits", lambda *_: False)
    monkeypatch.setattr(dist, "all_reduce", lambda tensor, _how: met.append(int(tensor)))
    with pytest.raises(ResourceLimit, match="not even one image"):
        fitting(replace(trainer, world=World(size=2)), data)
    assert len(met) == 1


def test_several_processes_do_not_try_alone(
    trainer: Trainer, data: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_batch, "_fits", None)
    together = replace(trainer, world=World(size=2))
    with (
        pytest.raises(ResourceLimit, match="16 images at once in each") as caught,
        refused(together, data),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory")
    assert "--auto-batch" in caught.value.remedy


def test_the_optimiser_has_its_memory_while_a_size_is_tried(trainer: Trainer, data: Images) -> None:
    parameters = list(trainer.model.parameters())
    found = auto_batch._momentum_to_come(trainer)
    assert sum(t.numel() for t in found) == sum(p.numel() for p in parameters)
    trainer.step(data.pixels[:4], data.labels[:4], 4)
    assert auto_batch._momentum_to_come(trainer) == []


def test_testing_takes_what_fits(
    card: ModelCard, trainer: Trainer, data: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(trainer.model, data, card.preprocessing)
    plain, tried = VGG.forward, list[int]()

    def forward(self: VGG, images: torch.Tensor) -> torch.Tensor:
        tried.append(len(images))
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, images)

    monkeypatch.setattr(VGG, "forward", forward)
    most = 30
    found = evaluate(trainer.model, data, card.preprocessing)
    assert tried == [100, 50, 25, 25, 25, 25]
    assert found.loss == pytest.approx(whole.loss, rel=1e-6)
    assert torch.equal(found.predicted, whole.predicted)
    torch.testing.assert_close(found.probability, whole.probability)
    most = 0
    with pytest.raises(ResourceLimit, match="for testing"):
        evaluate(trainer.model, data, card.preprocessing)


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
