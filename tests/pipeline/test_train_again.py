"""A training that is interrupted and goes on, or is done and asked for again."""

from __future__ import annotations

import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.pipeline.training import OPTIONS, SAMPLE, TINY, Heard
from vgg_deploy.bundle import open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import Interrupted, RefusedInput
from vgg_deploy.model.checkpoint import read_card
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.train.options import RunControl
from vgg_deploy.train.store import Store

WORDS = ["train", "--data", "sample", *TINY, "--epochs", "2", "--batch", "32", "--device", "cpu"]
WORDS += ["--precision", "fp32", "--max-images", "200"]


def test_a_bundle_after_an_interruption(tmp_path: Path) -> None:
    whole = train_bundle(tmp_path / "whole", SAMPLE)
    with pytest.raises(Interrupted):
        train_bundle(tmp_path / "cut", SAMPLE, Heard(stop_after=60))
    with pytest.raises(RefusedInput, match="was interrupted") as caught:
        train_bundle(tmp_path / "cut", SAMPLE)
    assert "--resume" in caught.value.remedy
    cut = train_bundle(tmp_path / "cut", SAMPLE, control=RunControl(resume="must"))
    assert cut.checkpoint.sha256 == whole.checkpoint.sha256
    assert not (tmp_path / "cut" / "training" / "checkpoints").exists()


@pytest.mark.parametrize("replaces", [[], ["--replace"]])
def test_the_command_that_goes_on_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], replaces: list[str]
) -> None:
    """The line that is told works, and the first one again throws nothing away."""
    root = tmp_path / "a folder"
    words = [*WORDS, *replaces, "-o", str(root)]
    assert main([*words, "--max-minutes", "1e-9"]) == 6
    told = capfd.readouterr().err.strip().splitlines()[-1]
    _, _, command = told.partition("remedy: a checkpoint was saved; go on with: ")
    again = shlex.split(command)
    assert again == ["vgg-deploy", *words, "--max-minutes", "1e-9", "--resume"]
    before = Store(root / "training").found()
    assert main(words) == 3
    error = capfd.readouterr().err
    assert "after step 1, which these options would go on with" in error
    assert f"go on with --resume; to start afresh delete {root}" in error
    assert Store(root / "training").found() == before
    assert main([*words, "--seed", "1"]) == (0 if replaces else 3)
    assert ("dropped: " in capfd.readouterr().err) == bool(replaces)
    if not replaces:
        assert main([word for word in again[1:] if word not in ("--max-minutes", "1e-9")]) == 0


def test_a_data_folder_that_was_renamed(photos: Path, tmp_path: Path) -> None:
    """The bundle's card is that of its checkpoint, whichever epoch was the best."""
    images = tmp_path / "images"
    shutil.copytree(photos, images)
    request = replace(SAMPLE, data=str(images))
    with pytest.raises(Interrupted):
        train_bundle(tmp_path / "b", request, Heard(stop_after=90))
    moved = replace(request, data=str(images.rename(tmp_path / "renamed")))
    bundle = train_bundle(tmp_path / "b", moved, control=RunControl(resume="must"))
    assert read_card(bundle.path(bundle.checkpoint)) == open_bundle(bundle.root).card
    assert bundle.card.dataset == "folder images"


def test_a_bundle_of_other_images_is_not_kept(photos: Path, tmp_path: Path) -> None:
    """As many, of the same names and folder: what decides the weights are their pixels."""
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    request = replace(SAMPLE, data=str(copy), options=replace(OPTIONS, epochs=1))
    first = train_bundle(tmp_path / "b", request)
    assert train_bundle(tmp_path / "b", request, reuse=True).checkpoint == first.checkpoint
    for path in copy.rglob("*.png"):
        with Image.open(path) as image:
            turned = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        turned.save(path)
    again = train_bundle(tmp_path / "b", request, reuse=True, replace=True)
    assert again.checkpoint.sha256 != first.checkpoint.sha256


def test_what_is_not_ours_stays_where_checkpoints_were(tmp_path: Path) -> None:
    mine = tmp_path / "training" / "checkpoints" / "mine.bin"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"x")
    train_bundle(tmp_path, SAMPLE)
    assert [path.name for path in mine.parent.iterdir()] == ["mine.bin"]
