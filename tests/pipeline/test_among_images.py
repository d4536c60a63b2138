"""A bundle that would lie, or lies, among the images it is trained on."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pipeline.training import OPTIONS, SAMPLE, TINY, Heard
from vgg_deploy.bundle import open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import Interrupted, UsageError
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.train.options import RunControl


@pytest.mark.parametrize("out", [".", "run", "deep/run", "link", "../link/run"])
def test_a_run_among_its_own_images(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], out: str
) -> None:
    """Refused before an image is decoded: the next run would take its pictures for a class."""
    images = tmp_path / "images"
    shutil.copytree(photos, images)
    for link in (tmp_path / "link", images / "link"):
        link.symlink_to(images)
    before = sorted(images.rglob("*"))
    words = ["train", *TINY, "--epochs", "1", "--device", "cpu", "--data", str(images)]
    assert main([*words, "-o", str(images / out)]) == 2
    error = capfd.readouterr().err
    assert "the folder of the images" in error
    assert "remedy: choose a folder elsewhere" in error
    assert sorted(images.rglob("*")) == before


def test_a_bundle_beside_the_splits(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No class, however often it is made; a split, or what lies in one, would be."""
    images = tmp_path / "images"
    for split in ("train", "test"):
        shutil.copytree(photos, images / split)
    words = ["train", *TINY, "--epochs", "1", "--device", "cpu", "--data", str(images)]
    words += ["--max-images", "9"]
    for out in ("train", "test/run", "val", "Valid/run"):
        assert main([*words, "-o", str(images / out)]) == 2
        assert f"{out} lies in the folder of the images" in capfd.readouterr().err
    for _ in range(2):
        assert main([*words, "-o", str(images / "model"), "--replace"]) == 0
        assert open_bundle(images / "model").card.labels == ("blue", "green", "red")


def test_a_run_that_is_among_its_images_goes_on(photos: Path, tmp_path: Path) -> None:
    """Of an earlier version: resumed, and reused when it is done."""
    shutil.copytree(photos, images := tmp_path / "images")
    request = replace(SAMPLE, data=str(images), options=replace(OPTIONS, max_images=64))
    with pytest.raises(Interrupted):
        train_bundle(tmp_path / "run", request, Heard(stop_after=32))
    root = (tmp_path / "run").rename(images / "run")
    done = train_bundle(root, request, control=RunControl(resume="must"))
    assert train_bundle(root, request, reuse=True, replace=True).checkpoint == done.checkpoint
    other = replace(request, size=20)
    with pytest.raises(UsageError, match="lies in the folder of the images"):
        train_bundle(root, other, reuse=True, replace=True)


def test_a_bundle_among_the_images_of_an_earlier_version(photos: Path, tmp_path: Path) -> None:
    """One finished, one interrupted, and the folder of the images itself."""
    images = tmp_path / "images"
    shutil.copytree(photos, images)
    request = replace(SAMPLE, data=str(images), options=replace(OPTIONS, epochs=1))
    done = train_bundle(tmp_path / "run", request)
    assert (done.root / "training" / "curves.png").is_file()
    with pytest.raises(Interrupted):
        train_bundle(images, replace(SAMPLE, options=OPTIONS), Heard(stop_after=60))
    shutil.copytree(images / "training", images / "cut" / "training")
    shutil.move(done.root, images / "run")
    heard = Heard()
    bundle = train_bundle(tmp_path / "again", request, heard)
    assert bundle.card.labels == ("blue", "green", "red")
    for name in ("cut", "run", "training"):
        assert f"train: {images / name} is of vgg-deploy itself: not a class" in heard.lines
