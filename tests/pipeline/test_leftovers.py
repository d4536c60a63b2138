"""What a training leaves in the folder of the run it replaces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.pipeline.training import OPTIONS, Heard
from tests.pipeline.training import SAMPLE as FEW_STEPS
from vgg_deploy.errors import BackendNotAvailable, Interrupted, TrainingDiverged
from vgg_deploy.pipeline import pictures
from vgg_deploy.pipeline.board import FOLDER
from vgg_deploy.pipeline.claim import SKIPPED_FILE
from vgg_deploy.pipeline.leftovers import left_behind
from vgg_deploy.pipeline.pictures import CONFUSION, CURVES, MISTAKES
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.train import loop
from vgg_deploy.train.options import RunControl
from vgg_deploy.train.outcome import PROFILE_FILE

EVERYTHING = RunControl(profile=True, tensorboard=True)
NAMED = {PROFILE_FILE, CURVES, CONFUSION, MISTAKES}
SAMPLE = replace(FEW_STEPS, options=replace(OPTIONS, batch=16))  # steps enough for a profile
OTHER = replace(SAMPLE, options=replace(SAMPLE.options, seed=1, epochs=1))


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder of a finished run with all that can be asked for."""
    bundle = train_bundle(tmp_path / "b", SAMPLE, control=EVERYTHING)
    return bundle.root / "training"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def test_nothing_of_the_replaced_run_stays_and_everything_of_others(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_arguments: object) -> None:
        raise BackendNotAvailable("pictures need matplotlib", "install it")

    assert names(old) >= NAMED
    assert names(old / FOLDER)
    (old / "mine.png").write_bytes(b"mine")
    (old / FOLDER / "notes.txt").write_bytes(b"mine")
    monkeypatch.setattr(pictures, "curves_png", missing)
    train_bundle(old.parent, OTHER, replace=True)
    assert not names(old) & NAMED
    assert (old / "mine.png").read_bytes() == b"mine"
    assert names(old / FOLDER) == {"notes.txt"}


def test_an_empty_folder_of_event_files_goes(old: Path) -> None:
    train_bundle(old.parent, OTHER, replace=True)
    assert not (old / FOLDER).exists()


def test_only_the_new_runs_event_files_stay(old: Path) -> None:
    (before,) = (old / FOLDER).iterdir()
    earlier = before.rename(before.with_name("events.out.tfevents.1700000000.host"))
    train_bundle(old.parent, OTHER, replace=True, control=EVERYTHING)
    assert not earlier.exists()
    assert len(names(old / FOLDER)) == 1
    assert names(old) >= NAMED


def test_event_files_of_the_same_second_are_told_apart(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file's name holds the second in which it was opened."""
    (before,) = (old / FOLDER).iterdir()
    content, second = before.read_bytes(), float(before.name.split(".")[3])
    with monkeypatch.context() as patch:
        patch.setattr("tensorboardX.event_file_writer.time.time", lambda: second)
        train_bundle(old.parent, OTHER, replace=True, control=EVERYTHING)
    (after,) = (old / FOLDER).iterdir()
    assert after.name == before.name
    assert after.read_bytes() != content


def test_a_run_that_does_not_start_removes_nothing(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise TrainingDiverged("planted", "")

    (old / SKIPPED_FILE).write_text("red/broken.jpg\n")
    before = names(old)
    monkeypatch.setattr(loop, "_fit_memory", refuse)
    with pytest.raises(TrainingDiverged):
        train_bundle(old.parent, OTHER, replace=True)
    assert names(old) == before


def test_a_resumed_run_keeps_its_own(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train_bundle(tmp_path, SAMPLE, Heard(stop_after=60), control=EVERYTHING)
    before = names(tmp_path / "training" / FOLDER)
    assert len(before) == 1
    train_bundle(tmp_path, SAMPLE, control=RunControl(resume="must"))
    assert names(tmp_path / "training" / FOLDER) == before


def test_where_no_run_of_ours_was_nothing_is_taken_for_ours(tmp_path: Path) -> None:
    mine = tmp_path / "training" / CURVES
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    assert left_behind(tmp_path) == ()
