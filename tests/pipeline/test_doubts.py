"""What may be wrong with an accuracy is said where no record tells which images were seen."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.pipeline.records import SHORT, accuracy_of, lines_of, pictures, verified, with_notes
from vgg_deploy.bundle import Bundle
from vgg_deploy.pipeline.images import seen_by
from vgg_deploy.pipeline.images_file import KEY, record_of
from vgg_deploy.pipeline.request import TrainRequest
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.pipeline.unseen import WEIGHTS_DATASET


def test_an_older_bundle_says_that_its_folder_has_changed(
    own: Bundle, photos: Path, tmp_path: Path
) -> None:
    (own.root / "training" / "images.csv").unlink()
    older = with_notes(own, {}, drop=KEY)
    said = f"images were added to folder {photos.name} or removed since: some of those tested may"
    _, told = verified(older, photos)
    assert not any("may have" in line for line in told)
    more = pictures(shutil.copytree(photos, tmp_path / photos.name), 15, 5)
    row, told = verified(older, more)
    assert accuracy_of(row).total == 27
    assert any(said in line for line in told)


@pytest.mark.parametrize("how", ["edited", "gone", "a folder"])
def test_a_record_that_was_lost_is_told(
    own: Bundle, photos: Path, tmp_path: Path, how: str
) -> None:
    path = own.root / "training" / "images.csv"
    text = path.read_text()
    path.unlink()
    if how == "edited":
        edited = text.replace(',"train",', ',"test",')
        assert edited != text
        path.write_text(edited)
    elif how == "a folder":
        path.mkdir()
    said = "training/images.csv is gone, cannot be read or was changed"
    row, told = verified(own, photos)
    assert accuracy_of(row).total == 18
    assert not any(said in line for line in told), "its own folder is known as a whole"
    _, told = verified(with_notes(own, {"fine_tuned_from": "0" * 64}), photos)
    assert any(said in line for line in told)
    more = pictures(shutil.copytree(photos, tmp_path / "more"), 4, 4)
    _, told = verified(own, more)
    assert any(said in line for line in told)


def begun_with_older(own: Bundle, folder: Path) -> tuple[Bundle, Path]:
    """A bundle fine-tuned from one that has no record, and the folder of its images."""
    (own.root / "training" / "images.csv").unlink()
    data = pictures(folder / "others", 10, 1)
    request = TrainRequest(start=own.root, data=str(data), options=SHORT)
    return train_bundle(folder / "b", request), data


def test_weights_of_an_older_bundle_are_known_by_their_folder(
    own: Bundle, photos: Path, tmp_path: Path
) -> None:
    bundle, _ = begun_with_older(own, tmp_path)
    assert own.checkpoint.made_by["dataset_files"] in seen_by(bundle)
    assert bundle.checkpoint.made_by[WEIGHTS_DATASET] == f"folder {photos.name}"
    row, _ = verified(bundle, photos)
    assert accuracy_of(row).total == 18


def test_weights_of_an_older_bundle_and_a_folder_of_theirs_that_has_changed(
    own: Bundle, photos: Path, tmp_path: Path
) -> None:
    bundle, data = begun_with_older(own, tmp_path)
    assert record_of(bundle)
    said = f"images were added to folder {photos.name} or removed since: some of those tested may"
    more = pictures(shutil.copytree(photos, tmp_path / photos.name), 1, 5)
    row, told = verified(bundle, more)
    assert accuracy_of(row).total == 93
    assert any(said in line for line in told)
    shutil.copy(next((data / "red").iterdir()), more / "red")
    row, told = verified(bundle, more)
    assert accuracy_of(row).available == 94
    assert any(said in line for line in told), "a record of some is none of the others"


def test_a_folder_on_record_that_was_written_again_is_told(
    own: Bundle, photos: Path, tmp_path: Path
) -> None:
    again = tmp_path / photos.name
    for path in photos.rglob("*.png"):
        (again / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(path).save(again / path.parent.name / path.name, compress_level=0)
    pictures(again, 1, 5)
    said = f"images were added to folder {photos.name} or removed since"
    _, told = verified(own, again)
    assert any(said in line for line in told)
    shutil.copy(photos / "red" / "0.png", again / "red" / "0.png")
    for line in lines_of(own):
        if line["part"] == "test":
            shutil.copy(photos / line["file"], again / line["file"])
    _, told = verified(own, again)
    assert not any(said in line for line in told), "the record knows this folder"


def test_a_record_is_read_before_its_bundle_is_replaced(own: Bundle, tmp_path: Path) -> None:
    """Without its record the source knows its folder; with one it says more of it."""
    data = pictures(tmp_path / "others", 10, 1)
    request = TrainRequest(start=own.root, data=str(data), options=SHORT)
    bundle = train_bundle(own.root, request, replace=True)
    assert Counter(line["part"] for line in lines_of(bundle))["train of the weights"] == 72
    assert WEIGHTS_DATASET not in bundle.checkpoint.made_by
