"""A bundle that is replaced: what goes, what stays, and what prevents it."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import make_bundle
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import RefusedInput
from vgg_deploy.manifest import MANIFEST


def other_weights(bundle: Bundle, folder: Path) -> Path:
    """A file with weights of the same network that are not the bundle's."""
    other = make_bundle(folder / "other", bundle.card, seed=1)
    return other.path(other.checkpoint)


def test_an_existing_bundle_is_not_overwritten(tiny_bundle: Bundle) -> None:
    with pytest.raises(RefusedInput, match="already is a bundle") as caught:
        make_bundle(tiny_bundle.root, tiny_bundle.card)
    assert "--replace" in caught.value.remedy


def test_an_interrupted_training_is_not_replaced(tiny_bundle: Bundle, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    shutil.copyfile(tiny_bundle.path(tiny_bundle.checkpoint), weights)
    kept = tiny_bundle.root / "training" / "checkpoints" / "step-00000007" / "state.json"
    kept.parent.mkdir(parents=True)
    kept.touch()
    words = ["load", "-o", str(tiny_bundle.root), "--replace", "--weights"]
    assert main([*words, str(weights)]) == 3
    assert kept.exists()
    last = tiny_bundle.root / "training" / "last.safetensors"
    shutil.rmtree(kept.parents[1])
    weights.rename(last)
    assert main([*words, str(last)]) == 2
    assert last.exists()


def test_records_of_the_model_that_was_replaced_go_with_it(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    weights = other_weights(tiny_bundle, tmp_path)
    for name in ("training/metrics.jsonl", "results/verify.json", "report.html", "notes.txt"):
        (tiny_bundle.root / name).parent.mkdir(exist_ok=True)
        (tiny_bundle.root / name).write_text("of the old one")
    assert main(["load", "--weights", str(weights), "-o", str(tiny_bundle.root), "--replace"]) == 0
    left = sorted(p.name for p in tiny_bundle.root.iterdir() if p.name != ".lock")
    assert left == [".gitattributes", "checkpoint.safetensors", MANIFEST, "notes.txt"]


def test_records_that_are_linked_go_and_what_they_link_to_stays(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    weights = other_weights(tiny_bundle, tmp_path)
    stored = tmp_path / "stored"
    stored.mkdir()
    (stored / "verify.json").write_text("of the old one")
    (tiny_bundle.root / "results").symlink_to(stored)
    assert main(["load", "--weights", str(weights), "-o", str(tiny_bundle.root), "--replace"]) == 0
    assert not (tiny_bundle.root / "results").is_symlink()
    assert [path.name for path in stored.iterdir()] == ["verify.json"]


def test_records_that_cannot_be_removed_are_told(
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = other_weights(tiny_bundle, tmp_path)
    record = tiny_bundle.root / "results" / "verify.json"
    record.parent.mkdir()
    record.touch()
    later = tiny_bundle.root / "report.html"
    later.touch()
    remove = os.unlink

    def kept(path: str, **where: int) -> None:  # as on a disk that is read only by now
        if Path(path).name == record.name:
            raise OSError(errno.EROFS, "Read-only file system", path)
        remove(path, **where)

    monkeypatch.setattr(os, "unlink", kept)
    assert main(["load", "--weights", str(weights), "-o", str(tiny_bundle.root), "--replace"]) == 3
    said = capsys.readouterr().err
    assert "is made, but a record of the model before stays: could not remove" in said
    assert record.exists()
    assert not later.exists()


def test_a_mount_among_the_records_is_emptied(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = other_weights(tiny_bundle, tmp_path)
    mount = tiny_bundle.root / "results"
    mount.mkdir()
    (mount / "verify.json").touch()
    remove = os.rmdir

    def busy(path: str, **where: int) -> None:
        if Path(path).name == mount.name:
            raise OSError(errno.EBUSY, "Device or resource busy", path)
        remove(path, **where)

    monkeypatch.setattr(os, "rmdir", busy)
    assert main(["load", "--weights", str(weights), "-o", str(tiny_bundle.root), "--replace"]) == 0
    assert not any(mount.iterdir())


@pytest.mark.parametrize("manifest", ["{", '{"schema_version": 99}', ""])
def test_a_bundle_whose_manifest_is_damaged_can_be_replaced(
    tiny_bundle: Bundle, tmp_path: Path, manifest: str
) -> None:
    weights = tmp_path / "weights.safetensors"
    tiny_bundle.path(tiny_bundle.checkpoint).rename(weights)
    (tiny_bundle.root / MANIFEST).write_text(manifest)
    words = ["load", "--weights", str(weights), "-o", str(tiny_bundle.root)]
    assert main(words) == 3
    assert main([*words, "--replace"]) == 0
    open_bundle(tiny_bundle.root).check()
