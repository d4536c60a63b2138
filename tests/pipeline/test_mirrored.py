"""Whether training says that it mirrors images."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pipeline.training import OPTIONS, SAMPLE, TINY, Heard
from vgg_deploy.cli import main
from vgg_deploy.errors import Interrupted
from vgg_deploy.pipeline import train
from vgg_deploy.pipeline.mirrored import mirroring
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.train import distributed

FOLDER = "folder photos"
PLAIN = "images are mirrored left to right at random (--no-flip for letters, digits and the like)"
LETTERS = "images are mirrored left to right at random, but classes seem to be letters or digits"
SIDES = "images are mirrored left to right at random, but classes seem to tell left from right"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (("cat", "dog"), PLAIN),
        (("cat", "x"), PLAIN),  # a single one is no alphabet
        (("10", "11"), PLAIN),
        (("+", "-"), PLAIN),
        (("bright", "copyright", "leftover"), PLAIN),
        (("b", "d", "p", "q"), f"{LETTERS} ('b', 'd', 'p', 'q'): if so, use --no-flip"),
        (("0", "1", "none"), f"{LETTERS} ('0', '1'): if so, use --no-flip"),
        (("e\u0301", "ж"), f"{LETTERS} ('e\u0301', 'ж'): if so, use --no-flip"),
        (tuple("abcdef"), f"{LETTERS} ('a', 'b', 'c', 'd' and 2 more): if so, use --no-flip"),
        (("turn_left", "ahead"), f"{SIDES} ('turn_left'): if so, use --no-flip"),
        (("RightArrow", "LEFT"), f"{SIDES} ('RightArrow', 'LEFT'): if so, use --no-flip"),
    ],
)
def test_what_the_classes_look_like(labels: tuple[str, ...], said: str) -> None:
    assert mirroring(OPTIONS, FOLDER, labels) == said


@pytest.mark.parametrize(
    ("recipe", "flip", "data", "silent"),
    [
        ("modern", None, FOLDER, False),
        ("fine-tune", None, FOLDER, False),
        ("book", None, FOLDER, True),  # mirrors nothing
        ("modern", True, FOLDER, True),
        ("modern", False, FOLDER, True),
        ("modern", None, "fashion-mnist", True),
        ("modern", None, "sample", True),
    ],
)
def test_when_it_is_said(recipe: str, flip: bool | None, data: str, silent: bool) -> None:
    options = replace(OPTIONS, recipe=recipe, flip=flip)
    assert (mirroring(options, data, ("b", "d")) == "") == silent


def test_training_says_it_once_before_it_begins(photos: Path, tmp_path: Path) -> None:
    request = replace(SAMPLE, data=str(photos), options=replace(OPTIONS, epochs=1))
    heard = Heard()
    train_bundle(tmp_path / "b", request, heard)
    said = [n for n, line in enumerate(heard.lines) if "mirrored" in line]
    (begun,) = [n for n, line in enumerate(heard.lines) if "epoch 1," in line]
    assert [heard.lines[n] for n in said] == [f"train: {PLAIN}"]
    assert said[0] < begun


def test_it_is_never_said_on_stdout(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    letters = tmp_path / "letters"
    for old, new in (("blue", "b"), ("red", "d")):
        shutil.copytree(photos / old, letters / new)
    words = ["train", "--data", str(letters), "--epochs", "1", "--device", "cpu", *TINY, "--json"]
    assert main([*words, "-o", str(tmp_path / "one")]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)
    assert "mirrored" not in out
    assert "('b', 'd'): if so, use --no-flip" in " ".join(err.split())


@pytest.mark.parametrize("main_process", [True, False])
def test_of_several_processes_one_says_it(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main_process: bool
) -> None:
    def trained(*_: object) -> None:
        raise Interrupted("enough", "nothing")

    monkeypatch.setattr(distributed, "is_main", lambda: main_process)
    monkeypatch.setattr(train, "_trained", trained)
    heard = Heard()
    with pytest.raises(Interrupted):
        train.train_process(tmp_path / "b", replace(SAMPLE, data=str(photos)), heard)
    assert (f"train: {PLAIN}" in heard.lines) == main_process
