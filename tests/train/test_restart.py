"""Interrupted and resumed runs, what is left of them, and what is refused."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scripts import check_restart
from tests.conftest import make_card
from tests.train.test_loop import quick
from vgg_deploy import environment
from vgg_deploy.cli.interrupt import remembered
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import Interrupted, RefusedInput, ResourceLimit
from vgg_deploy.files import sha256_of
from vgg_deploy.model.checkpoint import read_card
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import ModelCard
from vgg_deploy.train import epoch as epoch_module
from vgg_deploy.train import loop
from vgg_deploy.train import run as run_module
from vgg_deploy.train import stop as stop_module
from vgg_deploy.train.loop import Start, train
from vgg_deploy.train.options import KeepChoice, RunControl
from vgg_deploy.train.outcome import EpochRow, Silent
from vgg_deploy.train.recipes import RECIPES
from vgg_deploy.train.stop import StopWish
from vgg_deploy.train.store import Store, digest_of

RATE = RECIPES["modern"].lr
MUST = RunControl(resume="must")


class Signalled(Silent):
    """Gets a real signal after a step, as from a scheduler or a keyboard."""

    def __init__(self, after: int, number: signal.Signals = signal.SIGTERM) -> None:
        self.steps = 0
        self.notes: list[str] = []
        self.after, self.number = after, number

    def on_step(self, done_images: int, total_images: int, loss: float, /) -> None:
        self.steps += 1
        if self.steps == self.after:
            os.kill(os.getpid(), self.number)

    def on_note(self, text: str, /) -> None:
        self.notes.append(text)


def final(folder: Path) -> str:
    found = Store(folder).newest()
    assert found is not None
    return digest_of(found[1]) + sha256_of(folder / "best.safetensors")


def stop_after(folder: Path, card: ModelCard, few: Dataset, step: int, **changes: object) -> None:
    with pytest.raises(Interrupted) as caught:
        train(card, few, quick(**changes), folder, Signalled(step))
    assert caught.value.exit_code == 130
    assert "--resume" in caught.value.remedy


@pytest.mark.parametrize("step", [1, 3, 4, 5])  # 4 steps an epoch: first, inner, last, next
@pytest.mark.parametrize(
    "changes",
    [{"recipe": "book"}, {"recipe": "modern"}, {"ema": 0.9, "deterministic": True}],
    ids=["book", "modern", "averages"],
)
def test_the_same_bits(
    tmp_path: Path, card: ModelCard, few: Dataset, step: int, changes: dict[str, object]
) -> None:
    train(card, few, quick(**changes), tmp_path / "whole")
    stop_after(tmp_path / "cut", card, few, step, **changes)
    watch = Signalled(0)
    result = train(card, few, quick(**changes), tmp_path / "cut", watch, MUST)
    assert final(tmp_path / "cut") == final(tmp_path / "whole")
    assert watch.steps == 8 - step
    assert watch.notes == [f"resumed in epoch {1 + step // 5} after step {step}"]
    assert [row.epoch for row in result.rows] == [1, 2]


class Chunks:
    """Ten test images at a time; something happens after so many chunks."""

    def __init__(self, patch: pytest.MonkeyPatch, happens: dict[int, Callable[[], None]]) -> None:
        self._plain, self._happens, self._count = epoch_module._classified, happens, 0
        patch.setattr(epoch_module, "_TEST_BATCH", 10)
        patch.setattr(epoch_module, "_classified", self)

    def __call__(self, *given: Any) -> Any:
        self._count += 1
        self._happens.get(self._count, int)()
        return self._plain(*given)


def goes_on_with_testing(folder: Path, card: ModelCard, few: Dataset) -> None:
    assert [p.name for p in Store(folder / "cut").found()] == ["step-00000004"]
    watch = Signalled(0)
    train(card, few, quick(), folder / "cut", watch, MUST)
    assert watch.steps == 4  # of the second epoch
    train(card, few, quick(), folder / "whole")
    assert final(folder / "cut") == final(folder / "whole")


def test_a_signal_while_testing(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        Chunks(patch, {2: lambda: signal.raise_signal(signal.SIGTERM)})
        with pytest.raises(Interrupted, match="in epoch 1 after step 4"):
            train(card, few, quick(), tmp_path / "cut")
    goes_on_with_testing(tmp_path, card, few)


@pytest.mark.parametrize("few_told", [False, True])
def test_a_signal_before_the_first_step(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch, few_told: bool
) -> None:
    """While the weights to be fine-tuned are tested; no checkpoint is claimed."""
    start, watch = Start(VGG(card.spec).state_dict()), Signalled(0)
    with monkeypatch.context() as patch:
        Chunks(patch, {2: lambda: signal.raise_signal(signal.SIGTERM), 3: pytest.fail})
        with pytest.raises(Interrupted, match="by SIGTERM before the first step") as caught:
            train(card, few, quick(), tmp_path, watch, start=start)
    assert "checkpoint" not in caught.value.remedy
    assert (watch.notes, Store(tmp_path).found()) == ([], [])
    if few_told:
        monkeypatch.setattr(loop, "_TOLD_ON", 30)
    late = RunControl(max_minutes=1e-9)
    with pytest.raises(ResourceLimit, match="after step 1"):
        train(card, few, quick(), tmp_path, watch, late, start)
    (note,) = watch.notes
    assert note.startswith("before the first step: test 0.")
    assert note.endswith(" on the first 30 test images") == few_told


def test_a_power_cut_while_testing(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training was saved when it was time to, though no step came any more."""

    def cut() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 601)
        later.perf_counter = time.perf_counter
        Chunks(patch, {2: lambda: patch.setattr(run_module, "time", later), 4: cut})
        with pytest.raises(KeyboardInterrupt):
            train(card, few, quick(), tmp_path / "cut")
    goes_on_with_testing(tmp_path, card, few)


def test_a_signal_while_the_best_epoch_is_tested_again(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power went between the checkpoint of an epoch's end and the files that follow from it."""

    def cut(*_given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module.Run, "_write_epoch", cut)
        with pytest.raises(KeyboardInterrupt):
            train(card, few, quick(), tmp_path / "cut")
    with monkeypatch.context() as patch:
        Chunks(patch, {2: lambda: signal.raise_signal(signal.SIGTERM)})
        with pytest.raises(Interrupted, match="in epoch 2 after step 4"):
            train(card, few, quick(), tmp_path / "cut", control=MUST)
    goes_on_with_testing(tmp_path, card, few)


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_came_too_late_for_a_step_is_sent_again(
    tmp_path: Path, card: ModelCard, few: Dataset, kind: signal.Signals
) -> None:
    class Late(Silent):
        def on_epoch(self, row: EpochRow, /) -> None:
            if row.epoch == 2:  # the last
                signal.raise_signal(kind)
                heard.append("during")

    heard: list[object] = []
    before = signal.signal(kind, lambda number, _: heard.append(number))
    try:
        train(card, few, quick(), tmp_path, Late())
    finally:
        signal.signal(kind, before)
    assert heard == ["during", kind]
    watch = Signalled(0)
    train(card, few, quick(), tmp_path, watch, MUST)
    assert watch.notes == ["resumed after the last epoch"]


def test_a_terminal_that_closes(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    """Heeded as SIGTERM is; with ``nohup`` it is not heard."""
    with pytest.raises(Interrupted, match="stopped by SIGHUP in epoch 1 after step 2"):
        train(card, few, quick(), tmp_path, Signalled(2, signal.SIGHUP))
    assert [p.name for p in Store(tmp_path).found()] == ["step-00000002"]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        train(card, few, quick(), tmp_path, Signalled(1, signal.SIGHUP), MUST)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_is_one_wish_though_it_signals_twice() -> None:
    """A shell sends its jobs SIGHUP, and the kernel once more."""

    def closed() -> None:
        with StopWish() as stop:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGHUP)
            assert stop.signal == "SIGHUP"
            raise ZeroDivisionError

    with remembered():  # as in a command
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                closed()


@pytest.mark.slow
def test_real_processes_and_signals() -> None:
    report = check_restart.check(trials=3, seed=1)
    assert report.same == 3
    stopped = {code for trial in report.trials for code in trial.exit_codes[:-1]}
    assert stopped == {130, -signal.SIGKILL}
    polite = [t for t in report.trials if -signal.SIGKILL not in t.exit_codes]
    assert all(t.first_steps[1] not in (1, None) for t in polite)  # it did not start afresh


def test_the_handlers_are_put_back(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(n) for n in numbers]
    stop_after(tmp_path, card, few, 2)
    assert [signal.getsignal(n) for n in numbers] == before


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    class Impatient(Signalled):
        def on_step(self, done_images: int, total_images: int, loss: float, /) -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job has none
    try:
        with pytest.raises(KeyboardInterrupt):
            train(card, few, quick(), tmp_path, Impatient(0))
    finally:
        signal.signal(signal.SIGINT, before)


def test_of_several_processes_a_repeat_is_the_same_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler sends it to all, torchrun passes on its own."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with StopWish() as stop:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            told = [bool(stop), stop.overdue]
            monkeypatch.setattr(stop_module, "REPEAT", 0.0)
            monkeypatch.setattr(stop_module, "PATIENCE", 0.0)
            assert [*told, stop.overdue] == [True, False, True]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            stop.signal = None
    finally:
        signal.signal(signal.SIGINT, before)


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


def test_the_time_limit(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    with pytest.raises(ResourceLimit, match="minutes ran out in epoch 1 after step 1") as caught:
        train(card, few, quick(), tmp_path, control=RunControl(max_minutes=1e-9))
    assert caught.value.exit_code == 6
    train(card, few, quick(), tmp_path, control=MUST)


def test_a_time_limit_shorter_than_testing_gets_on(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited, starts = RunControl(max_minutes=1e-9, resume="may"), 0
    Chunks(monkeypatch, {})
    while starts < 20:
        starts += 1
        try:
            train(card, few, quick(), tmp_path / "cut", control=limited)
            break
        except ResourceLimit:
            continue
    assert starts == 9  # a step each, and the last only tests
    train(card, few, quick(), tmp_path / "whole")
    assert final(tmp_path / "cut") == final(tmp_path / "whole")
