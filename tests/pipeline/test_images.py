"""Which images of a folder a network is verified with, and which class is which."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import make_card, photos
from tests.heard import Heard
from vgg_deploy.bundle import Bundle
from vgg_deploy.data.image_folder import load_image_folder
from vgg_deploy.data.sources import geometry_of
from vgg_deploy.errors import RefusedInput
from vgg_deploy.pipeline.cells import Selection
from vgg_deploy.pipeline.images import images_for, refuse_misnamed, seen_by
from vgg_deploy.pipeline.verify import VerifyOptions, verify_bundle
from vgg_deploy.report.tables import verify_table
from vgg_deploy.spec import ModelCard


def card_of(labels: tuple[str, ...], dataset: str | None = None) -> ModelCard:
    card = make_card(channels=3)
    spec = replace(card.spec, classes=len(labels))
    return replace(card, spec=spec, labels=labels, dataset=dataset)


@pytest.fixture
def pets(tmp_path: Path) -> str:
    return str(photos(tmp_path / "pets", 0))  # 25 cats, 25 dogs


@pytest.mark.parametrize(
    ("dataset", "seen", "tested"),
    [
        (None, set(), 50),
        ("folder birds", set(), 50),
        ("folder pets", set(), 10),
        (None, {"folder pets"}, 10),
    ],
)
def test_images_that_a_network_never_saw_are_all_tested_with(
    pets: str, dataset: str | None, seen: set[str], tested: int
) -> None:
    images = images_for(card_of(("cat", "dog"), dataset), pets, seen=seen)
    assert len(images.dataset.test) == tested
    assert np.bincount(images.dataset.test.labels).tolist() == [tested // 2] * 2
    assert images.dataset.count == 50
    assert images.source == f"folder pets {'all' if tested == 50 else 'test'}"
    assert images.dataset.fingerprint()


def test_a_folder_is_known_by_its_files_wherever_they_lie(pets: str, tmp_path: Path) -> None:
    card = card_of(("cat", "dog"), "folder pets")
    files = load_image_folder(Path(pets), geometry_of(card.preprocessing)).files
    shutil.copytree(pets, tmp_path / "moved")
    for known, tested in ((files, 10), ("0" * 16, 50)):
        images = images_for(card, str(tmp_path / "moved"), seen={known})
        assert len(images.dataset.test) == tested
    (tmp_path / "moved" / "cat" / "0.png").unlink()
    assert len(images_for(card, str(tmp_path / "moved"), seen={files}).dataset.test) == 49


def test_a_folder_with_train_alone_is_one_without_splits(pets: str, tmp_path: Path) -> None:
    """Its images are known by their names below train, so by that path, too."""
    (tmp_path / "alone").mkdir()
    inside = Path(shutil.move(pets, tmp_path / "alone" / "train"))
    card = card_of(("cat", "dog"))
    own = load_image_folder(inside.parent, geometry_of(card.preprocessing))
    assert (len(own.train), len(own.test)) == (40, 10)
    for place in (inside.parent, inside):
        for known, tested in ((own.files, 10), ("0" * 16, 50)):
            images = images_for(card, str(place), seen={known})
            assert len(images.dataset.test) == tested
            told = any("a fifth" in remark for remark in images.dataset.remarks)
            assert told == (tested == 10 and place == inside.parent)


def test_a_class_of_one_image_is_tested_with_where_none_is_kept(pets: str) -> None:
    for path in list((Path(pets) / "cat").iterdir())[1:]:
        path.unlink()
    card = card_of(("cat", "dog"))
    assert np.bincount(images_for(card, pets).dataset.test.labels).tolist() == [1, 25]
    with pytest.raises(RefusedInput, match="cat has one image"):
        images_for(card, pets, seen={"folder pets"})


def test_a_bundle_says_what_its_files_were_made_with(tiny_bundle: Bundle) -> None:
    notes = {"dataset_files": "abc", "calibration_data": "folder pets train", "command": "train"}
    first = replace(tiny_bundle.checkpoint, made_by=notes)
    bundle = replace(tiny_bundle, manifest=replace(tiny_bundle.manifest, artifacts=(first,)))
    assert seen_by(bundle) == {"abc", "folder pets"}
    assert not seen_by(tiny_bundle)


def test_classes_in_another_order_are_matched_by_name(pets: str) -> None:
    plain = images_for(card_of(("cat", "dog")), pets)
    images = images_for(card_of(("dog", "cat")), pets)
    assert images.dataset.labels == ("dog", "cat")
    assert np.array_equal(images.dataset.test.labels, 1 - plain.dataset.test.labels)
    assert images.remark == "classes are matched by name: folder pets has them in another order"
    right = images.dataset.test.labels
    refuse_misnamed(images, right)  # the names are right, and the network is
    half = np.where(np.arange(50) < 25, right, 1 - right)
    refuse_misnamed(images, half)  # it knows nothing, and shows nothing
    refuse_misnamed(plain, 1 - plain.dataset.test.labels)  # nobody says so
    with pytest.raises(RefusedInput, match=r"class 0 is called 'dog' and is 'cat'") as caught:
        refuse_misnamed(images, 1 - right)
    assert "with that order 50 of 50 answers are right, with the model's 0" in caught.value.cause
    assert "--labels" in caught.value.remedy


@pytest.mark.parametrize(
    ("labels", "remark", "no_accuracy"),
    [
        (("class 0", "class 1"), "class 0 is 'class 0' in the network and 'cat' in folder p", ""),
        (("cat", "hound"), "by position: class 1 is 'hound' in the network and 'dog' in", ""),
        (("hound", "cat"), "", "class 0, 'cat', is class 1 of the model"),
        (("a", "b", "c"), "", "other classes than this model"),
    ],
)
def test_classes_of_other_names(
    pets: str, labels: tuple[str, ...], remark: str, no_accuracy: str
) -> None:
    images = images_for(card_of(labels), pets)
    assert remark in images.remark
    assert no_accuracy in images.no_accuracy
    assert bool(images.remark) == bool(remark)
    assert bool(images.no_accuracy) == bool(no_accuracy)


def test_images_without_classes_are_verified_with_and_have_no_accuracy(
    onnx_bundle: Bundle, pets: str
) -> None:
    told = Heard()
    options = VerifyOptions(
        selection=Selection(backends=("ort-cpu",)), images=8, data=str(Path(pets) / "cat")
    )
    report = verify_bundle(onnx_bundle, options, told)
    (row,) = report.rows
    assert (row.verdict, row.accuracy) == ("equivalent", None)
    assert report.image_source == "folder cat all"
    said = "verify: accuracy not compared, folder cat has no folders of classes, so no labels"
    assert said in told.said
    assert "Accuracy" not in verify_table(report).note
