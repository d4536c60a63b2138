"""``load --replace``: what goes with the old weights is said, what was told stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.model.vgg import VGG
from vgg_deploy.pipeline.replaced import what_goes
from vgg_deploy.report.remade_checkpoint import checkpoint_command
from vgg_deploy.spec import ModelSpec, unnamed_labels

ARCH = "1x4-1x8"
NAMES = tuple(f"name {n}" for n in range(10))


def weights(path: Path, seed: int, *, classes: int = 10, size: int = 32) -> Path:
    torch.manual_seed(seed)
    spec = ModelSpec.named(ARCH, size=size, channels=3, classes=classes, fc_width=16)
    torch.save(VGG(spec).state_dict(), path)
    return path


@pytest.fixture
def root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A bundle with labels and a preprocessing that a user told, and with an export."""
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(NAMES))
    root = tmp_path / "b"
    words = ["load", "--weights", str(weights(tmp_path / "v1.pth", 1)), "--arch", ARCH]
    words += ["--labels", str(labels), "--mean", "0.5,0.5,0.5", "-o", str(root)]
    assert main(words) == 0
    assert main(["export", str(root), "--format", "torchscript"]) == 0
    (root / "results").mkdir()
    (root / "report.html").write_text("x")
    (root / "report.md").write_text("x")
    capsys.readouterr()
    return root


def replaced(root: Path, file: Path, *more: str) -> Bundle:
    words = ["load", "--weights", str(file), "--arch", ARCH, "-o", str(root), "--replace"]
    assert main([*words, *more]) == 0
    return open_bundle(root)


def test_other_weights_of_the_same_classes(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (2, 3):  # what was kept once is kept again
        bundle = replaced(root, weights(tmp_path / "v2.pth", seed))
        said = " ".join(capsys.readouterr().err.split())
        assert bundle.card.labels == NAMES
        assert bundle.card.preprocessing.mean == (0.5,) * 3
        assert bundle.checkpoint.made_by["labels"] == "kept"
        assert "labels kept of the bundle before" in said
        assert "preprocessing kept of the bundle before: --mean 0.5,0.5,0.5" in said
        gone = "removed with the weights before: 1 export, results, golden vectors, reports"
        assert (gone in said) == (seed == 2)
        assert "--labels FILE" in checkpoint_command(bundle, "b")
    assert what_goes(root, bundle) == []


def test_weights_of_other_classes_or_size_keep_nothing(root: Path, tmp_path: Path) -> None:
    bundle = replaced(root, weights(tmp_path / "v2.pth", 2, classes=9, size=48), "--size", "48")
    assert bundle.card.labels == unnamed_labels(9)
    assert bundle.card.preprocessing.mean != (0.5,) * 3
    assert bundle.checkpoint.made_by["labels"] == "own"


def test_what_is_told_anew_holds(root: Path, tmp_path: Path) -> None:
    labels = tmp_path / "others.txt"
    labels.write_text("\n".join(NAMES[::-1]))
    more = ("--labels", str(labels), "--preprocessing", "scale")
    bundle = replaced(root, weights(tmp_path / "v2.pth", 2), *more)
    assert bundle.card.labels == NAMES[::-1]
    assert bundle.card.preprocessing.mean == (0,) * 3


def test_the_same_weights_change_nothing(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {p: p.read_bytes() for p in root.rglob("*") if p.is_file()}
    replaced(root, tmp_path / "v1.pth")
    assert "already holds these weights and this card" in " ".join(capsys.readouterr().err.split())
    replaced(root, root / "checkpoint.safetensors")
    assert {p: p.read_bytes() for p in root.rglob("*") if p.is_file()} == before
    checkpoint = root / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    bundle = replaced(root, tmp_path / "v1.pth")
    bundle.check()
    assert bundle.find("torchscript") is None


def test_labels_of_the_weights_take_the_place_of_others(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, labels = tiny_bundle.path(tiny_bundle.checkpoint), tmp_path / "labels.txt"
    labels.write_text("\n".join(NAMES))
    words = ["load", "--weights", str(file), "-o", str(tmp_path / "b")]
    assert main([*words, "--labels", str(labels)]) == 0
    assert main([*words, "--replace"]) == 0
    assert open_bundle(tmp_path / "b").card.labels == tiny_bundle.card.labels
    assert "no longer those of the bundle before" in " ".join(capsys.readouterr().err.split())


def test_a_bundle_that_cannot_be_read_keeps_nothing(root: Path, tmp_path: Path) -> None:
    (root / "manifest.json").write_text('{"schema_version": 1}')
    assert replaced(root, weights(tmp_path / "v2.pth", 2)).card.labels == unnamed_labels(10)
