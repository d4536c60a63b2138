"""Which runs a checkpoint is gone on with, and which are refused as another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.conftest import make_card
from tests.train.test_loop import quick
from tests.train.test_restart import MUST, Signalled, final, stop_after
from vgg_deploy import environment
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import Interrupted, RefusedInput
from vgg_deploy.model.checkpoint import read_card
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.loop import train
from vgg_deploy.train.options import KeepChoice, RunControl
from vgg_deploy.train.recipes import RECIPES
from vgg_deploy.train.store import Store

RATE = RECIPES["modern"].lr


def test_nothing_to_resume(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    with pytest.raises(RefusedInput, match="nothing to resume"):
        train(card, few, quick(), tmp_path, control=MUST)
    train(card, few, quick(epochs=1), tmp_path, control=RunControl(resume="may"))


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({}, {"epochs": 5}, "--epochs: 2 before, 5 now, and the learning rate depends on them"),
        ({"recipe": "book"}, {"recipe": "book", "epochs": 1}, "--epochs: 2 before, 1 now"),
        ({}, {"ema": 0.9}, "--ema: 0.0 before, 0.9 now"),
        ({}, {"batch": 50, "lr": 0.5}, f"--batch: 32 before, 50 now; --lr: the recipe's ({RATE}) "),
        ({}, {"flip": False}, "--flip: given before, not given now"),
        ({}, {"max_images": 90}, "--max-images: none before, 90 now"),
        ({}, {"deterministic": True}, "--deterministic: not given before, given now"),
        ({}, {"compile": True}, "--compile: not given before, given now"),
    ],
)
def test_another_run(
    tmp_path: Path, card: ModelCard, few: Dataset,
    before: dict[str, object], now: dict[str, object], said: str,
) -> None:  # fmt: skip
    """In the words of the command line, and no difference that follows from another one."""
    stop_after(tmp_path, card, few, 2, **before)
    with pytest.raises(RefusedInput) as caught:
        train(card, few, quick(**now), tmp_path, control=MUST)
    told = caught.value.cause.removeprefix("the checkpoint is of another run: ")
    assert told.startswith(said)
    assert len(told.split("; ")) == len(said.split("; "))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("now", [{"max_images": 90}, {"validation": 0.1}])
def test_mean_and_deviation_follow_from_the_images_that_are_chosen(
    tmp_path: Path, card: ModelCard, few: Dataset, now: dict[str, object]
) -> None:
    stop_after(tmp_path, card, few, 2)
    shifted = replace(card, preprocessing=replace(card.preprocessing, mean=(0.3,), std=(0.4,)))
    with pytest.raises(RefusedInput) as caught:
        train(shifted, few, quick(**now), tmp_path, control=MUST)
    name = next(iter(now)).replace("_", "-")
    assert caught.value.cause.startswith(f"the checkpoint is of another run: --{name}: ")
    assert "; " not in caught.value.cause


def test_the_recipes_own_values_are_the_same_options(
    tmp_path: Path, card: ModelCard, few: Dataset
) -> None:
    stop_after(tmp_path, card, few, 2)
    train(card, few, quick(lr=RATE, flip=True), tmp_path, control=MUST)


def test_another_network_and_other_data(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    stop_after(tmp_path, card, few, 2)
    other = make_card("1x4-1x8", size=20)
    with pytest.raises(RefusedInput, match=r"run: --size: 16 before, 20 now$"):
        train(other, few, quick(), tmp_path, control=MUST)
    wide = make_card("1x4-1x9", size=16)
    with pytest.raises(RefusedInput, match=r"run: --arch: 1x4-1x8 before, 1x4-1x9 now$"):
        train(wide, few, quick(), tmp_path, control=MUST)
    shallow = replace(card, spec=replace(card.spec, hidden=1))
    with pytest.raises(RefusedInput, match=r"run: --hidden: 2 before, 1 now$"):
        train(shallow, few, quick(), tmp_path, control=MUST)
    fewer = replace(few, train=few.train.take(90))
    said = r"run: --data: 100\+40 images before, 90\+40 images now$"
    with pytest.raises(RefusedInput, match=said):
        train(card, fewer, quick(), tmp_path, control=MUST)
    turned = replace(few, train=replace(few.train, images=few.train.images[:, ::-1]))
    with pytest.raises(RefusedInput, match=r"as many images as before .*, but other ones$"):
        train(card, turned, quick(), tmp_path, control=MUST)
    renamed = replace(card, labels=("owl", *card.labels[1:]))
    with pytest.raises(RefusedInput, match=r"run: classes: .* before, owl, "):
        train(renamed, few, quick(), tmp_path, control=MUST)


def test_the_same_images_under_another_name(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    """The files of one run have one card, the first's."""
    named = [replace(few, name=f"folder a, {name}") for name in ("old", "new")]
    cards = [replace(card, dataset=data.name) for data in named]
    with pytest.raises(Interrupted):
        train(cards[0], named[0], quick(), tmp_path / "cut", Signalled(6))
    result = train(cards[1], named[1], quick(), tmp_path / "cut", control=MUST)
    assert result.card == cards[0]
    assert read_card(result.best_path) == read_card(result.last_path) == cards[0]
    train(cards[0], named[0], quick(), tmp_path / "whole")
    assert final(tmp_path / "cut") == final(tmp_path / "whole")


@pytest.mark.parametrize("step", [2, 8])  # in an epoch, and after the last one
def test_more_epochs_at_a_constant_rate(
    tmp_path: Path, card: ModelCard, few: Dataset, step: int
) -> None:
    options = {"recipe": "book", "deterministic": True}
    if step == 8:
        train(card, few, quick(**options), tmp_path / "cut")  # no bundle was made
    else:
        stop_after(tmp_path / "cut", card, few, step, **options)
    longer = quick(**options, epochs=4)
    watch = Signalled(0)
    result = train(card, few, longer, tmp_path / "cut", watch, MUST)
    assert watch.steps == 16 - step
    assert [row.epoch for row in result.rows] == [1, 2, 3, 4]
    train(card, few, longer, tmp_path / "whole")
    assert final(tmp_path / "cut") == final(tmp_path / "whole")


@pytest.mark.parametrize("keep", ["same", "all"])
def test_this_very_run_is_not_thrown_away(
    tmp_path: Path, card: ModelCard, few: Dataset, keep: KeepChoice
) -> None:
    stop_after(tmp_path, card, few, 2)
    control = RunControl(keep_unfinished=keep)
    with pytest.raises(
        RefusedInput, match="after step 2, which these options would go on with"
    ) as caught:
        train(card, few, quick(), tmp_path, control=control)
    assert "--replace" not in caught.value.remedy
    assert [p.name for p in Store(tmp_path).found()] == ["step-00000002"]
    if keep == "all":
        with pytest.raises(RefusedInput, match="after step 2, with other options"):
            train(card, few, quick(seed=5), tmp_path, control=control)
        return
    watch = Signalled(0)
    train(card, few, quick(seed=5), tmp_path, watch, control)
    assert watch.notes == [f"dropped: {tmp_path} holds a run that was interrupted after step 2"]


def test_what_cannot_be_gone_on_with_may_be_replaced(
    tmp_path: Path, card: ModelCard, few: Dataset
) -> None:
    stop_after(tmp_path, card, few, 2)
    (Store(tmp_path).found()[0] / "state.json").write_text("{}")
    watch = Signalled(0)
    with pytest.raises(RefusedInput, match=r"holds a run that was interrupted$"):
        train(card, few, quick(), tmp_path, control=RunControl(keep_unfinished="all"))
    train(card, few, quick(), tmp_path, watch, RunControl(keep_unfinished="same"))
    assert watch.notes == [f"dropped: {tmp_path} holds a run that was interrupted"]


def test_other_threads_matter_where_bits_do(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(tmp_path, card, few, 2, deterministic=True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    with pytest.raises(RefusedInput, match=r"threads: \d+ before, 99 now"):
        train(card, few, quick(deterministic=True), tmp_path, control=MUST)


def test_another_processor_matters_where_bits_do(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = environment.capture()
    stop_after(tmp_path, card, few, 2, deterministic=True)
    monkeypatch.setattr(environment, "capture", lambda: replace(here, cpu="another one"))
    with pytest.raises(RefusedInput, match=r"cpu: .* before, another one now"):
        train(card, few, quick(deterministic=True), tmp_path, control=MUST)


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Limits the threads of runs from then on, as a container does."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield lambda number: monkeypatch.setattr(environment, "threads", lambda: number)
    torch.set_num_threads(before)


def test_another_number_of_threads_is_told_and_kept_on_record(
    tmp_path: Path, card: ModelCard, few: Dataset, allow: Callable[[int], None]
) -> None:
    """Interrupted twice, and gone on with the second time as before: there is nothing to tell."""
    allow(1)
    stop_after(tmp_path, card, few, 2)
    allow(2)
    watches = [Signalled(1), Signalled(0)]
    with pytest.raises(Interrupted):
        train(card, few, quick(), tmp_path, watches[0], MUST)
    result = train(card, few, quick(), tmp_path, watches[1], MUST)
    assert watches[0].notes == [
        "resumed in epoch 1 after step 2",
        "threads: 1 before, 2 now: do not expect the bits of a run that was left alone",
    ]
    assert watches[1].notes == ["resumed in epoch 1 after step 3"]
    assert result.made_by["threads"] == "1, then 2"
    assert result.made_by["processes"] == "1"


def test_threads_that_made_no_step_are_not_on_record(
    tmp_path: Path, card: ModelCard, few: Dataset, allow: Callable[[int], None]
) -> None:
    allow(1)
    train(card, few, quick(), tmp_path)
    allow(2)
    watch = Signalled(0)
    result = train(card, few, quick(), tmp_path, watch, MUST)
    assert watch.notes == ["resumed after the last epoch"]
    assert result.made_by["threads"] == "1"
