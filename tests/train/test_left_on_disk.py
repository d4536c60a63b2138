"""What a run leaves on the disk: checkpoints, damaged ones, the best weights, a full disk."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.train.test_loop import of_accuracy, quick
from tests.train.test_restart import MUST, Signalled, final, stop_after
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import DigestMismatch, Interrupted, RefusedInput
from vgg_deploy.files import sha256_of
from vgg_deploy.spec import ModelCard
from vgg_deploy.train import best
from vgg_deploy.train import run as run_module
from vgg_deploy.train.epoch import Classified
from vgg_deploy.train.loop import train
from vgg_deploy.train.options import RunControl, TrainOptions
from vgg_deploy.train.outcome import EpochRow, Silent
from vgg_deploy.train.store import COMPLETE, STATE, TENSORS, Store

MAY = RunControl(resume="may")


def test_the_newest_two_are_kept(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    train(card, few, quick(), tmp_path, control=RunControl(save_every=0))
    names = [p.name for p in Store(tmp_path).found()]
    assert names == ["step-00000008", "step-00000007"]
    for path in Store(tmp_path).found():
        assert sorted(p.name for p in path.iterdir()) == sorted((TENSORS, STATE, COMPLETE))
    left = set((tmp_path / "checkpoints").iterdir())
    assert {p.name for p in left.difference(best.kept(tmp_path / "checkpoints"))} == set(names)


def test_nothing_is_written_between_without_need(
    tmp_path: Path, card: ModelCard, few: Dataset
) -> None:
    train(card, few, quick(epochs=1), tmp_path)
    assert [p.name for p in Store(tmp_path).found()] == ["step-00000004"]


@pytest.fixture
def two(tmp_path: Path, card: ModelCard, few: Dataset) -> Path:
    """A finished run with checkpoints after steps 8 and 7."""
    train(card, few, quick(), tmp_path / "run", control=RunControl(save_every=0))
    return tmp_path / "run"


@pytest.mark.parametrize("name", [TENSORS, STATE, COMPLETE])
@pytest.mark.parametrize("how", ["changed", "absent"])
def test_a_damaged_checkpoint_is_told_and_not_used(
    two: Path, card: ModelCard, few: Dataset, name: str, how: str
) -> None:
    whole = final(two)
    newest = Store(two).found()[0] / name
    if how == "absent":
        newest.unlink()
    else:
        newest.write_bytes(newest.read_bytes()[:-9] + b"\x01" * 9)
    watch = Signalled(0)
    train(card, few, quick(), two, watch, MUST)
    assert "step-00000008" in watch.notes[0]
    assert "one before" in watch.notes[0]
    assert watch.notes[1].endswith("after step 7")
    assert final(two) == whole


def test_all_damaged(two: Path, card: ModelCard, few: Dataset) -> None:
    for path in Store(two).found():
        (path / TENSORS).write_bytes(b"")
    with pytest.raises(DigestMismatch, match="no checkpoint is intact") as caught:
        train(card, few, quick(), two, control=MUST)
    assert caught.value.exit_code == 4


def test_another_best_file(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    stop_after(tmp_path, card, few, 6)
    (tmp_path / "best.safetensors").write_bytes(b"x")
    for control in (MUST, MAY):
        with pytest.raises(RefusedInput, match="best epoch") as caught:
            train(card, few, quick(), tmp_path, control=control)
        assert f"delete {tmp_path / 'checkpoints'} and" in caught.value.remedy


def damage_all(run: Path) -> None:
    for path in Store(run).found():
        (path / TENSORS).write_bytes(b"")


def damage_best(run: Path) -> None:
    (run / "best.safetensors").write_bytes(b"x")


def age(run: Path) -> None:
    change_states(run, lambda state: state.update(schema_version=1))


@pytest.mark.parametrize("damage", [damage_all, damage_best, age])
def test_what_the_main_job_cannot_go_on_with_is_told_and_dropped(
    tmp_path: Path, card: ModelCard, few: Dataset, damage: Callable[[Path], None]
) -> None:
    """It has neither --resume nor --replace."""
    with pytest.raises(Interrupted):
        train(card, few, quick(), tmp_path / "cut", Signalled(6), MAY)
    damage(tmp_path / "cut")
    watch = Signalled(0)
    train(card, few, quick(), tmp_path / "cut", watch, MAY)
    (note,) = watch.notes
    assert note.endswith(": dropped, the run starts afresh")
    assert watch.steps == 8
    train(card, few, quick(), tmp_path / "whole")
    assert final(tmp_path / "cut") == final(tmp_path / "whole")


def test_what_is_damaged_and_not_the_main_jobs_is_kept(
    tmp_path: Path, card: ModelCard, few: Dataset
) -> None:
    stop_after(tmp_path, card, few, 2)
    damage_all(tmp_path)
    with pytest.raises(DigestMismatch) as caught:
        train(card, few, quick(), tmp_path, control=MAY)
    assert f"delete {tmp_path / 'checkpoints'} and" in caught.value.remedy
    assert Store(tmp_path).found()


class PowerCut(Silent):
    """Ends the process after an epoch, before its next checkpoint."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch(self, row: EpochRow, /) -> None:
        if row.epoch == self.epoch:
            raise KeyboardInterrupt


def test_the_checkpoint_before_a_new_best_has_its_own_best(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest one is damaged after an epoch that was better; the bits stay the same."""
    every = RunControl(save_every=0)
    made: list[int] = []

    def better_each(*_given: object) -> Classified:
        made.append(1)
        return of_accuracy(0.1 * len(made))

    monkeypatch.setattr(run_module, "evaluate", better_each)
    train(card, few, quick(epochs=3), tmp_path / "whole")
    made.clear()
    with pytest.raises(KeyboardInterrupt):
        train(card, few, quick(epochs=3), tmp_path / "cut", PowerCut(2), every)
    store = Store(tmp_path / "cut")
    assert len(best.kept(store.folder)) == 1
    (store.found()[0] / TENSORS).write_bytes(b"damaged")
    del made[1:]
    watch = Signalled(0)
    train(card, few, quick(epochs=3), tmp_path / "cut", watch, replace(every, resume="must"))
    assert "one before" in watch.notes[0]
    assert final(tmp_path / "cut") == final(tmp_path / "whole")
    assert len(best.kept(store.folder)) <= 1


def test_best_files_go_with_the_checkpoints_that_speak_of_them(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    accuracies = iter((0.1, 0.2, 0.1, 0.1))
    monkeypatch.setattr(run_module, "evaluate", lambda *a: of_accuracy(next(accuracies)))
    train(card, few, quick(epochs=4), tmp_path, control=RunControl(save_every=0))
    assert best.kept(Store(tmp_path).folder) == []


def change_states(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change state.json of all checkpoints, and its digest with it."""
    for path in Store(run).found():
        state = json.loads((path / STATE).read_text())
        change(state)
        (path / STATE).write_text(json.dumps(state))
        marker = json.loads((path / COMPLETE).read_text())
        marker["state"] = sha256_of(path / STATE)
        (path / COMPLETE).write_text(json.dumps(marker))


def test_a_run_from_before_there_were_averages(
    tmp_path: Path, card: ModelCard, few: Dataset
) -> None:
    stop_after(tmp_path / "cut", card, few, 2)
    change_states(tmp_path / "cut", lambda state: state["identity"]["options"].pop("ema"))
    with pytest.raises(RefusedInput, match=r"--ema: 0\.0 before, 0\.9 now"):
        train(card, few, quick(ema=0.9), tmp_path / "cut", control=MUST)
    train(card, few, quick(), tmp_path / "cut", control=MUST)
    train(card, few, quick(), tmp_path / "whole")
    assert final(tmp_path / "cut") == final(tmp_path / "whole")


def test_an_earlier_versions_run(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    stop_after(tmp_path, card, few, 2)
    change_states(tmp_path, lambda state: state.update(schema_version=1, rows="none"))
    with pytest.raises(RefusedInput, match="schema version 1"):
        train(card, few, quick(), tmp_path, control=MUST)
    with pytest.raises(RefusedInput, match="schema version 1"):
        train(card, few, quick(), tmp_path, control=MAY)
    assert Store(tmp_path).found()


def test_left_overs_of_a_killed_save_go(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    left = tmp_path / "checkpoints" / ".partial-x" / "step-00000009"
    left.mkdir(parents=True)
    train(card, few, quick(epochs=1), tmp_path, control=MAY)
    assert not left.parent.exists()


_FULL = """
import resource, sys
from pathlib import Path
from tests.train.conftest import cut
from tests.conftest import make_card
from tests.train.test_loop import quick
from vgg_deploy.errors import ResourceLimit
from vgg_deploy.train.loop import train
from vgg_deploy.train.options import RunControl
class Full:
    def on_start(self, plan): pass
    def on_note(self, text): pass
    def on_epoch(self, row): pass
    def on_step(self, done, total, loss):
        if done >= 96:
            resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    train(make_card("1x4-1x8", size=16), cut(100, 40), quick(), Path(sys.argv[1]), Full(),
          RunControl(save_every=0))
except ResourceLimit as error:
    print(error.exit_code, error.cause)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
def test_a_full_disk(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    """Steps 1 and 2 are saved, then no file may grow beyond 3,000 bytes."""
    command = [sys.executable, "-c", _FULL, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("6 "), (done.stdout, done.stderr)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] != []
    assert [p.name for p in Store(tmp_path / "run").found()] == ["step-00000002", "step-00000001"]
    train(card, few, quick(), tmp_path / "whole")
    train(card, few, quick(), tmp_path / "run", control=MUST)
    assert final(tmp_path / "run") == final(tmp_path / "whole")


def test_a_disk_that_cannot_sync_folders(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CIFS and some FUSE file systems; for a file the same answer is an error."""
    plain = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) == of_folders:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    of_folders = True
    train(card, few, quick(epochs=1), tmp_path)
    assert Store(tmp_path).newest()
    of_folders = False
    with pytest.raises(RefusedInput, match="Invalid argument"):
        train(card, few, quick(epochs=1), tmp_path)


def test_state_is_plain_json_and_tensors(two: Path) -> None:
    newest = Store(two).found()[0]
    state = json.loads((newest / STATE).read_text())
    assert state["progress"]["epoch"] == 2
    assert [EpochRow(**row).epoch for row in state["rows"]] == [1, 2]
    assert state["identity"]["options"] == {**vars(TrainOptions()), **vars(quick())}
