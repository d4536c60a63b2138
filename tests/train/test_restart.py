"""Interrupted and resumed runs, and what is left of them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts import check_restart
from tests.train.test_loop import quick
from vgg_deploy.cli.interrupt import remembered
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import Interrupted, ResourceLimit
from vgg_deploy.files import sha256_of
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import ModelCard
from vgg_deploy.train import epoch as epoch_module
from vgg_deploy.train import loop
from vgg_deploy.train import run as run_module
from vgg_deploy.train import stop as stop_module
from vgg_deploy.train.loop import Start, train
from vgg_deploy.train.options import RunControl
from vgg_deploy.train.outcome import EpochRow, Silent
from vgg_deploy.train.stop import StopWish
from vgg_deploy.train.store import Store, digest_of

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
