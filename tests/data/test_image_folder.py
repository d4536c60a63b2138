from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vgg_deploy import environment
from vgg_deploy.data.image_folder import load_image_folder
from vgg_deploy.data.sources import is_folder, open_dataset
from vgg_deploy.data.squares import Geometry
from vgg_deploy.errors import RefusedInput, ResourceLimit, UsageError
from vgg_deploy.spec import Preprocessing

RGB = Geometry(side=8, channels=3)
COLOURS = {"cat": (200, 30, 30), "dog": (30, 200, 30), "owl": (30, 30, 200)}


def draw(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (10, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def tree(root: Path, counts: Sequence[int] = (10, 10), below: str = "") -> Path:
    for (name, colour), count in zip(COLOURS.items(), counts, strict=False):
        for index in range(count):
            draw(root / below / name / f"{index:03d}.png", colour)
    return root


def test_labels_images_and_a_split_of_each_class(tmp_path: Path) -> None:
    data = load_image_folder(tree(tmp_path / "pets"), RGB)
    assert data.labels == ("cat", "dog")
    assert (data.name, data.remarks) == ("folder pets", ())
    assert data.train.images.shape == (16, 8, 8, 3)
    assert np.bincount(data.train.labels).tolist() == [8, 8]
    assert np.bincount(data.test.labels).tolist() == [2, 2]
    for split in (data.train, data.test):
        for image, label in zip(split.images, split.labels, strict=True):
            assert tuple(image[4, 4]) == list(COLOURS.values())[label]


def test_the_split_depends_on_names_alone(tmp_path: Path) -> None:
    one = load_image_folder(tree(tmp_path / "a"), RGB)
    draw(tmp_path / "b" / "cat" / "000.png", (1, 2, 3))  # made first, other pixels
    two = load_image_folder(tree(tmp_path / "b"), RGB)
    assert one.test.labels.tolist() == two.test.labels.tolist()
    assert np.array_equal(one.train.images, two.train.images)


def test_a_validation_image_that_cannot_be_read(tmp_path: Path) -> None:
    tree(tmp_path, (5, 6), "train")
    tree(tmp_path, (2, 3), "test")
    _spoil(tree(tmp_path, (1, 1), "val") / "val" / "dog")
    with pytest.raises(RefusedInput, match="no readable validation images of dog"):
        load_image_folder(tmp_path, RGB)
    _spoil(tmp_path / "val" / "cat")
    with pytest.raises(RefusedInput, match="no readable validation images of cat, dog"):
        load_image_folder(tmp_path, RGB)


def test_no_readable_image_at_all(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"broken")
    with pytest.raises(RefusedInput, match=r"no readable images; 1 could not be read"):
        load_image_folder(tmp_path, RGB, labelled=False)


def test_unreadable_images_are_named(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for name in ("x.jpg", "y.png"):
        (root / "cat" / name).write_bytes(b"no image")
    whole = (root / "dog" / "000.png").read_bytes()
    (root / "dog" / "z.png").write_bytes(whole[: len(whole) // 2])
    data = load_image_folder(root, RGB)
    assert len(data.train) + len(data.test) == 20
    (remark,) = data.remarks
    assert remark.startswith("skipped 3 unreadable images: ")
    assert "cat/x.jpg (is not an image that Pillow can read)" in remark
    assert "dog/z.png" in remark


def test_a_link_that_leads_nowhere_is_an_unreadable_image(tmp_path: Path) -> None:
    root = tree(tmp_path)
    (root / "cat" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    data = load_image_folder(root, RGB)
    assert len(data.train) + len(data.test) == 20
    (skipped,) = data.skipped
    assert skipped.startswith("cat/gone.png (")


def test_uneven_classes_are_told(tmp_path: Path) -> None:
    (remark,) = load_image_folder(tree(tmp_path, (40, 10)), RGB).remarks
    assert remark.startswith("classes are uneven: 32 images of cat, 8 of dog")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda root: None, "not a folder"),
        (lambda root: root.mkdir(), "no class folders with images"),
        (lambda root: tree(root, (3,)), "only one class, cat"),
        (lambda root: tree(root, (3,), "train"), "train has only one class, cat"),
        (lambda root: _spoil(tree(root) / "dog"), "images of dog; 10 of these could not be read"),
        (lambda root: (tree(root) / "empty" / "deep").mkdir(parents=True), "empty is empty"),
        (lambda root: (tree(root, below="train") / "train" / "e").mkdir(), "train/e is empty"),
    ],
)
def test_refusals(tmp_path: Path, make: object, said: str) -> None:
    root = tmp_path / "data"
    make(root)  # type: ignore[operator]
    with pytest.raises(RefusedInput, match=said):
        load_image_folder(root, RGB)


def test_classes_of_one_image(tmp_path: Path) -> None:
    """A fifth would leave none; which of the thousand files is read plays no part."""
    root = tree(tmp_path / "one", (1, 2))
    with pytest.raises(RefusedInput, match=r"in .*one cat has one image; a class needs two"):
        load_image_folder(root, RGB)
    for index in range(5):
        draw(root / f"n{index}" / "0.png", COLOURS["owl"])
    with pytest.raises(RefusedInput, match="cat, n0, n1 and 3 more have one image each"):
        load_image_folder(root, RGB)
    with pytest.raises(RefusedInput, match="train cat has one image"):
        load_image_folder(tree(tmp_path / "alone", (1, 2), "train"), RGB)
    tree(tmp_path / "own", (1, 1), "train")
    assert len(load_image_folder(tree(tmp_path / "own", (1, 1), "val"), RGB).train) == 2


def test_skipped_files_of_other_classes_are_not_to_blame(tmp_path: Path) -> None:
    root = tree(tmp_path, (10, 2, 2))
    for name in ("cat/x.png", "dog/000.png", "owl/000.png"):
        (root / name).write_bytes(b"x")
    with pytest.raises(RefusedInput, match="images of") as caught:
        load_image_folder(root, RGB)
    assert "cat" not in caught.value.cause
    assert "at least two" in caught.value.remedy


def test_every_process_holds_all_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(environment.capture(), memory_bytes=20 * 8 * 8 * 3 * 2)
    monkeypatch.setattr(environment, "capture", lambda: small)
    load_image_folder(tree(tmp_path), RGB)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ResourceLimit, match="in 2 processes"):
        load_image_folder(tmp_path, RGB)


def _spoil(folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"x")


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(RefusedInput, match="Permission denied"):
        load_image_folder(tmp_path, RGB)


def test_too_much_for_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(environment.capture(), memory_bytes=5000)
    monkeypatch.setattr(environment, "capture", lambda: small)
    with pytest.raises(ResourceLimit, match="20 images of 8 px") as caught:
        load_image_folder(tree(tmp_path), RGB)
    assert caught.value.exit_code == 6


def test_the_first_few_are_of_all_classes(tmp_path: Path) -> None:
    data = load_image_folder(tree(tmp_path, (40, 40)), RGB)
    assert 4 <= data.train.take(16).labels.sum() <= 12


def test_grey_networks_get_grey_images(tmp_path: Path) -> None:
    grey = Geometry(side=8, channels=1)
    data = load_image_folder(tree(tmp_path / "pets"), grey)
    assert data.train.images.shape[3] == 1
    assert data.remarks == ("the network takes grey images: the colour of 20 of these is dropped",)
    for path in (tmp_path / "pets").rglob("*.png"):
        draw(path, (7, 7, 7))  # grey, stored as RGB
    assert load_image_folder(tmp_path / "pets", grey).remarks == ()


def test_what_is_a_name_and_what_a_path(tmp_path: Path) -> None:
    p = Preprocessing(size=8, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert not is_folder("sample")
    assert not is_folder("sampel")  # a wrong name gets the nearest one
    assert is_folder("./sample")
    assert open_dataset(str(tree(tmp_path)), None, p).labels == ("cat", "dog")
    with pytest.raises(UsageError, match="--data-dir"):
        open_dataset(str(tmp_path), tmp_path, p)
    with pytest.raises(UsageError, match="unknown data set"):
        open_dataset("sampel", None, p)
