"""Training that begins with another bundle's weights: what is kept, frozen, or begins afresh."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import LABELS, make_bundle, make_card
from tests.pipeline.training import OPTIONS, SAMPLE, Heard
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.data.fashion_mnist import load_dataset
from vgg_deploy.errors import Interrupted, UsageError
from vgg_deploy.files import sha256_of
from vgg_deploy.model.checkpoint import load_state
from vgg_deploy.pipeline.request import TrainRequest
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.report.remade_checkpoint import checkpoint_command
from vgg_deploy.spec import unnamed_labels
from vgg_deploy.train import loop


def test_fine_tuning_with_frozen_features(trained: Bundle, tmp_path: Path) -> None:
    """Grey clothes for a network of coloured noise: other classes, the same preprocessing."""
    options = replace(OPTIONS, recipe="fine-tune", freeze="features", batch=16)
    request = TrainRequest(start=trained.root, data="sample", options=options)
    heard = Heard()
    tuned = train_bundle(tmp_path / "tuned", request, heard)
    assert tuned.card.preprocessing == trained.card.preprocessing
    assert tuned.card.spec.arch == trained.card.spec.arch
    assert len(tuned.card.labels) == 10
    before, after = (load_state(b.path(b.checkpoint)) for b in (trained, tuned))
    assert all(before[k].equal(after[k]) for k in before if k.startswith("blocks"))
    assert not before["head.fc6.weight"].equal(after["head.fc6.weight"])
    assert after["head.fc8.weight"].shape[0] == 10
    best = tuned.root / "training" / "best.safetensors"
    assert sha256_of(best) == tuned.checkpoint.sha256
    assert tuned.checkpoint.made_by["fine_tuned_from"] == trained.checkpoint.sha256
    assert any("of them frozen" in line for line in heard.lines)


CLOTHES = load_dataset("sample").labels


@pytest.mark.parametrize(
    ("labels", "rows", "said"),
    [
        (CLOTHES, list(range(10)), ""),
        (CLOTHES[::-1], list(range(9, -1, -1)), "kept, its rows in the order of the data set"),
        (unnamed_labels(10), list(range(10)), f"matched by position, class 0 is {CLOTHES[0]!r}"),
        (LABELS, [], f"begins afresh: other classes, such as {CLOTHES[0]!r}, not 'a'"),
        ((*CLOTHES, "hat"), [], "begins afresh: other classes, 10 instead of 11"),
    ],
)
def test_the_last_layer_follows_its_classes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    labels: tuple[str, ...],
    rows: list[int],
    said: str,
) -> None:
    card = make_card("1x4-1x8", size=16)
    spec = replace(card.spec, classes=len(labels))
    base = make_bundle(tmp_path / "base", replace(card, spec=spec, labels=labels))
    begun: list[loop.Start] = []

    def train(*given: object) -> None:
        begun.append(given[-1])  # type: ignore[arg-type]
        raise Interrupted("enough", "nothing")

    monkeypatch.setattr(loop, "train", train)
    options = replace(OPTIONS, recipe="fine-tune")
    heard = Heard()
    request = TrainRequest(start=base.root, data="sample", options=options)
    with pytest.raises(Interrupted):
        train_bundle(tmp_path / "b", request, heard)
    before, after = load_state(base.path(base.checkpoint)), begun[0].state
    for name in ("head.fc8.weight", "head.fc8.bias"):
        assert (name in after) == bool(rows)
        assert not rows or after[name].equal(before[name][rows])
    assert after["head.fc7.weight"].equal(before["head.fc7.weight"])
    lines = [line for line in heard.lines if "last layer" in line]
    assert len(lines) == bool(said)
    assert said in "".join(lines)


@pytest.mark.parametrize("kept", [True, False])
def test_the_accuracy_before_the_first_step_is_told(tmp_path: Path, kept: bool) -> None:
    """With steps of nearly nothing it is that of the first epoch, too."""
    card = replace(make_card("1x4-1x8", size=16), labels=CLOTHES if kept else LABELS)
    base = make_bundle(tmp_path / "base", card)
    options = replace(OPTIONS, recipe="fine-tune", epochs=1, lr=1e-9)
    heard = Heard()
    request = TrainRequest(start=base.root, data="sample", options=options)
    train_bundle(tmp_path / "b", request, heard)
    row = json.loads((tmp_path / "b" / "training" / "metrics.jsonl").read_text())
    told = f"train: before the first step: test {row['test_accuracy']:.4f}"
    assert (told in heard.lines) == kept
    assert any("before the first step" in line for line in heard.lines) == kept
    assert any(" on 200 of 5,000 images" in line for line in heard.lines)


def test_frozen_batch_norm_keeps_its_statistics(tmp_path: Path) -> None:
    base = make_bundle(tmp_path / "base", make_card("1x4-1x8_bn", size=16))
    options = replace(OPTIONS, recipe="fine-tune", freeze="features")
    request = TrainRequest(start=base.root, data="sample", options=options)
    tuned = train_bundle(tmp_path / "tuned", request)
    before, after = (load_state(b.path(b.checkpoint)) for b in (base, tuned))
    assert all(before[k].equal(after[k]) for k in before if k.startswith("blocks"))


def test_random_features_are_not_frozen(tmp_path: Path) -> None:
    request = replace(SAMPLE, options=replace(OPTIONS, freeze="features"))
    with pytest.raises(UsageError, match="random features"):
        train_bundle(tmp_path / "b", request)
    assert not (tmp_path / "b").exists()


def test_the_printed_command_trains_the_same_weights(
    trained: Bundle, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it names in capitals put in its place."""
    words = ["--from", str(trained.root), "--freeze", "features", "--data", str(photos)]
    more = "--epochs 1 --batch 16 --validation 0.2 --ema 0.5 --no-flip --seed 5 --device cpu"
    made = tmp_path / "b"
    assert main(["train", *words, *more.split(), "--deterministic", "-o", str(made)]) == 0
    bundle = open_bundle(made)
    told, _, missing = checkpoint_command(bundle, str(tmp_path / "again")).partition("  # ")
    made_by = bundle.checkpoint.made_by
    assert trained.checkpoint.sha256[:12] in missing
    assert made_by["dataset_files"] in missing
    threads, command, *line = shlex.split(told.removeprefix("# "))
    assert (threads, command) == (f"OMP_NUM_THREADS={made_by['threads']}", "vgg-deploy")
    monkeypatch.setenv(*threads.split("="))
    paths = {"BUNDLE": str(trained.root), "PATH": str(photos)}
    assert main([paths.get(word, word) for word in line]) == 0
    assert open_bundle(tmp_path / "again").checkpoint.sha256 == bundle.checkpoint.sha256
