"""What is remembered of how long steps took."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.heard import Heard
from vgg_deploy.bundle import Bundle
from vgg_deploy.pipeline import usual
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.usual import begin_usual
from vgg_deploy.pipeline.watch import Silent


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache" / "seconds.json"
    monkeypatch.setattr(usual, "_file", lambda: path)
    return path


def usual_of(like: str) -> float | None:
    told = Heard()
    begin_usual(told, "step", like)
    return told.steps[-1].seconds


def test_nothing_is_known_of_a_new_step(file: Path) -> None:
    assert usual_of("export onnx, VGG-11") is None
    assert not file.exists()  # only finished work is remembered


def test_the_second_time_it_is_known(file: Path) -> None:
    was_made = begin_usual(Silent(), "step", "a")
    was_made()
    assert file.exists()
    assert usual_of("a") == pytest.approx(0, abs=1)
    assert usual_of("b") is None


@pytest.mark.parametrize("content", ["", "[1]", '{"a": "long"}', '{"a": null}', "\xff"])
def test_a_damaged_file_is_as_none(file: Path, content: str) -> None:
    file.parent.mkdir()
    file.write_text(content, encoding="latin-1")
    assert usual_of("a") is None
    begin_usual(Silent(), "step", "a")()
    assert usual_of("a") is not None


def test_where_nothing_can_be_written_the_work_goes_on(file: Path) -> None:
    file.parent.write_text("a file where the folder should be")
    begin_usual(Silent(), "step", "a")()
    assert usual_of("a") is None


def test_only_the_newest_are_kept(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps({str(i): 1.0 for i in range(200)}))
    begin_usual(Silent(), "step", "0")()  # it moves to the end
    begin_usual(Silent(), "step", "new")()
    known = json.loads(file.read_text())
    assert len(known) == 200
    assert "0" in known
    assert "1" not in known


def test_an_export_is_remembered_when_it_was_made(tiny_bundle: Bundle, file: Path) -> None:
    bundle, _, _ = export_bundle(tiny_bundle, ["torchscript"])
    (first,) = json.loads(file.read_text()).items()
    told = Heard()
    export_bundle(bundle, ["torchscript"], told)
    assert {step.what: step.seconds for step in told.steps}["export torchscript"] == first[1]
    assert dict([first]) == json.loads(file.read_text())  # reused: nothing new is learned
