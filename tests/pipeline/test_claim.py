"""Whose the folder of a training is: no other run's at the same time, and nobody else's."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pipeline.training import OPTIONS, SAMPLE, TINY, Heard
from vgg_deploy.cli import main
from vgg_deploy.errors import RefusedInput, TrainingDiverged
from vgg_deploy.pipeline.claim import LOCK
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.train.store import Store

SHORT = replace(SAMPLE, options=replace(OPTIONS, epochs=1))


def contents(folder: Path) -> dict[str, str]:
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_text() for p in files}


@pytest.mark.parametrize("words", [[], ["--replace"], ["--resume"]])
@pytest.mark.parametrize(
    "name",
    [
        "metrics.jsonl",
        "skipped.txt",
        "best.safetensors",
        "last.safetensors",
        "evaluation.json",
        "profile.json",
        "images.csv",
        "curves.png",
        "checkpoints/job.json",
        "checkpoints/best-0123456789abcdef/weights",
        "checkpoints/step-00001000/weights",
    ],
)
def test_a_training_folder_of_somebody_else_is_left_alone(
    tmp_path: Path, name: str, words: list[str]
) -> None:
    file = tmp_path / "training" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    train = ["train", "--data", "sample", "-o", str(tmp_path)]
    assert main([*train, *words]) == 3
    assert contents(tmp_path) == {f"training/{name}": "mine"}


def test_of_other_names_everything_stays(tmp_path: Path) -> None:
    names = {"notes.txt", "checkpoints/best-model/weights", "checkpoints/best-0123/weights"}
    for name in names:
        (tmp_path / "training" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "training" / name).write_text("mine")
    train_bundle(tmp_path, SHORT)
    for name in names:
        assert (tmp_path / "training" / name).read_text() == "mine"


def test_the_remedy_of_a_run_that_diverged_after_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "--data", "sample", "-o", str(tmp_path), *TINY, "--max-images", "200"]
    words += ["--device", "cpu", "--precision", "fp32", "--batch", "32", "--epochs", "1"]
    assert main([*words, "--save-every", "0", "--lr", "1e6"]) == 9
    assert "lower --lr (it was 1e+06) and start afresh with --replace\n" in capsys.readouterr().err
    assert main([*words, "--lr", "0.01"]) == 3
    assert main([*words, "--lr", "0.01", "--replace"]) == 0


def test_a_run_that_failed_before_its_first_checkpoint_may_come_again(
    photos: Path, tmp_path: Path
) -> None:
    request = replace(SHORT, data=str(photos))
    with pytest.raises(TrainingDiverged):
        train_bundle(tmp_path, replace(request, options=replace(request.options, lr=1e30)))
    assert (tmp_path / "training" / "skipped.txt").exists()
    assert not Store(tmp_path / "training").found()
    train_bundle(tmp_path, request).check()


def test_a_run_that_does_not_begin_leaves_no_folder(tmp_path: Path) -> None:
    assert main(["train", "--data", "sample", "--resume", "-o", str(tmp_path)]) == 3
    assert list(tmp_path.iterdir()) == []


class Second(Heard):
    """Starts another training into the same folder while the first trains."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.refused: list[RefusedInput] = []

    def advance(self, done: int = 1) -> None:
        if not self.refused:
            other = replace(SHORT, options=replace(SHORT.options, seed=1))
            with pytest.raises(RefusedInput, match="another training is writing to") as caught:
                train_bundle(self.root, other, replace=True)
            self.refused.append(caught.value)


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    alone = train_bundle(tmp_path / "alone", SHORT)
    second = Second(tmp_path / "both")
    both = train_bundle(tmp_path / "both", SHORT, second)
    assert second.refused[0].exit_code == 3
    assert "-o" in second.refused[0].remedy
    assert both.checkpoint.sha256 == alone.checkpoint.sha256


HOLD = """
import sys, time
from pathlib import Path
from vgg_deploy.pipeline.claim import claimed
with claimed(Path(sys.argv[1]), replace=False):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_killed_run_blocks_nobody(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RefusedInput, match="another training"):
            train_bundle(tmp_path, SHORT)
        other.kill()
    assert (tmp_path / "training" / LOCK).exists()
    train_bundle(tmp_path, SHORT).check()
