"""Training as a part of the main job, and the pictures and event files of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import make_bundle, make_card
from tests.pipeline.training import OPTIONS, SAMPLE, Heard
from vgg_deploy import jsonio
from vgg_deploy.bundle import open_bundle
from vgg_deploy.cli import main
from vgg_deploy.data.fashion_mnist import load_dataset
from vgg_deploy.errors import BackendNotAvailable, Interrupted, RefusedInput
from vgg_deploy.files import sha256_of
from vgg_deploy.pipeline import pictures
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.report.findings import gather
from vgg_deploy.train.options import RunControl
from vgg_deploy.train.outcome import EpochRow, Evaluation, Mistake
from vgg_deploy.train.store import Store


def test_the_main_job_goes_on_by_itself(tmp_path: Path) -> None:
    may = RunControl(resume="may")
    with pytest.raises(Interrupted):
        train_bundle(tmp_path, SAMPLE, Heard(stop_after=60), replace=True, control=may)
    heard = Heard()
    train_bundle(tmp_path, SAMPLE, heard, replace=True, control=may)
    assert any("resumed in epoch 1" in line for line in heard.lines)
    with pytest.raises(Interrupted):
        train_bundle(tmp_path, SAMPLE, Heard(stop_after=60), replace=True, control=may)
    other = replace(SAMPLE, options=replace(OPTIONS, seed=1))
    train_bundle(tmp_path, other, heard, replace=True, control=may)  # afresh, not an error
    assert open_bundle(tmp_path).checkpoint.made_by["seed"] == "1"


def test_the_main_job_replaces_its_own_alone(tmp_path: Path) -> None:
    may = RunControl(resume="may")
    with pytest.raises(Interrupted):
        train_bundle(tmp_path / "cut", SAMPLE, Heard(stop_after=60))
    other = replace(SAMPLE, options=replace(OPTIONS, seed=1, epochs=1))
    with pytest.raises(RefusedInput, match="another run that was interrupted"):
        train_bundle(tmp_path / "cut", other, replace=True, control=may, maker="run")
    assert Store(tmp_path / "cut" / "training").found()
    base = make_bundle(tmp_path / "base", make_card("1x4-1x8", size=16))
    with pytest.raises(RefusedInput, match="did not make"):
        train_bundle(base.root, other, replace=True, reuse=True, control=may, maker="run")
    base.check()
    for seed in (1, 2):
        again = replace(other, options=replace(other.options, seed=seed))
        made = train_bundle(
            tmp_path / "own", again, replace=True, reuse=True, control=may, maker="run"
        )
        assert made.checkpoint.made_by["seed"] == str(seed)


def test_the_report_does_not_show_the_run_that_would_replace_its_bundle(tmp_path: Path) -> None:
    train_bundle(tmp_path, SAMPLE)
    shown = gather(open_bundle(tmp_path)).metrics
    assert len(shown) == 2
    other = replace(SAMPLE, options=replace(OPTIONS, seed=1))
    with pytest.raises(Interrupted):  # in the first epoch: nothing was written over
        train_bundle(tmp_path, other, Heard(stop_after=60), replace=True)
    assert gather(open_bundle(tmp_path)).metrics == shown
    must = RunControl(resume="must")
    with pytest.raises(Interrupted):
        train_bundle(tmp_path, other, Heard(stop_after=240), control=must, replace=True)
    findings = gather(open_bundle(tmp_path))
    assert findings.metrics == ()
    assert "unfinished" in findings.withheld
    train_bundle(tmp_path, other, control=must, replace=True)
    assert len(gather(open_bundle(tmp_path)).metrics) == 2


def test_run_leaves_a_bundle_of_others_alone(tmp_path: Path) -> None:
    base = make_bundle(tmp_path / "base", make_card("1x4-1x8", size=16))
    before = sorted(p.name for p in base.root.iterdir())
    assert main(["run", "--preset", "quick", "-o", str(base.root)]) == 3
    assert sorted(p.name for p in base.root.iterdir()) == before


@pytest.mark.parametrize("wrong", [0, 3])
def test_the_pictures_that_were_drawn_are_named(tmp_path: Path, wrong: int) -> None:
    worst = tuple(Mistake(index=i, truth=0, predicted=1, probability=0.5) for i in range(wrong))
    found = Evaluation(
        labels=("a", "b"), confusion=((3 - wrong, wrong), (0, 4)), mistakes=wrong, worst=worst
    )
    jsonio.save(tmp_path / "evaluation.json", found)
    row = EpochRow(
        epoch=1, loss=0.5, train_accuracy=0.9, test_loss=0.5, test_accuracy=0.9,
        examples_per_second=1.0, seconds=1.0, lr=0.1,
    )  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text(jsonio.dumps(row, indent=None) + "\n")
    heard = Heard()
    pictures.draw_training(tmp_path, load_dataset("sample").test, heard)
    (line,) = heard.lines
    _, _, named = line.rpartition(": ")
    assert sorted(named.split(", ")) == sorted(p.name for p in tmp_path.glob("*.png"))


def test_the_title_of_pictures_without_a_kept_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Evaluation(labels=("a", "b"), confusion=((1, 2), (0, 4)), mistakes=2, worst=())
    jsonio.save(tmp_path / "evaluation.json", found)
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 1}\n')
    titles: list[str] = []
    monkeypatch.setattr(pictures, "curves_png", lambda *_: None)
    monkeypatch.setattr(pictures, "confusion_png", lambda *given: titles.append(given[-1]))
    pictures.draw_training(tmp_path, load_dataset("sample").test, Heard())
    assert titles == ["2 mistakes in 7 test images"]


def test_pictures_and_event_files(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event

    held_out = replace(SAMPLE, options=replace(OPTIONS, validation=0.1, ema=0.9))
    heard = Heard()
    bundle = train_bundle(tmp_path, held_out, heard, control=RunControl(tensorboard=True))
    root, made_by = bundle.root, bundle.checkpoint.made_by
    count = int(made_by["validation_images"])
    assert (int(made_by["train_images"]) + count, made_by["validation"]) == (200, "0.1")
    assert f"train: the best epoch is chosen on {count} images held out" in heard.lines
    assert made_by["ema"] == "0.9"
    best = root / "training" / "best.safetensors"
    assert sha256_of(best) == bundle.checkpoint.sha256  # by which the report knows its training
    averaged = "train: averages of the weights, decay 0.9 per step, are tested and saved"
    assert averaged in heard.lines
    assert sum(", validation 0." in line for line in heard.lines) == 2
    for name in (pictures.CURVES, pictures.CONFUSION, pictures.MISTAKES):
        with Image.open(root / "training" / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 300
    found = jsonio.load(Evaluation, root / "training" / "evaluation.json")
    assert sum(map(sum, found.confusion)) == 1000
    (events,) = (root / "training" / "tensorboard").iterdir()
    content = events.read_bytes()
    tags: set[str] = set()
    while content:  # length, its checksum, the event, its checksum
        length = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + length])
        tags |= {value.tag for value in event.summary.value}
        content = content[16 + length :]
    assert {"step/loss", "epoch/test_accuracy", "epoch/validation_loss", "epoch/lr"} <= tags


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_arguments: object) -> None:
        raise BackendNotAvailable("pictures need matplotlib", "install it")

    monkeypatch.setattr(pictures, "curves_png", missing)
    heard = Heard()
    train_bundle(tmp_path, SAMPLE, heard)
    assert heard.lines[-1] == "train: no pictures: pictures need matplotlib; install it"
