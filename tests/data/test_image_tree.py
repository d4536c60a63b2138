"""Which folders are classes, splits, ours or nothing of a data set."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.data.test_image_folder import COLOURS, RGB, draw, tree
from vgg_deploy.data.image_folder import load_image_folder
from vgg_deploy.data.image_tree import find_images
from vgg_deploy.errors import RefusedInput


@pytest.mark.parametrize("name", ["val", "valid", "test"])
def test_a_split_of_its_own(tmp_path: Path, name: str) -> None:
    tree(tmp_path, (5, 6), "train")
    data = load_image_folder(tree(tmp_path, (2, 3), name), RGB)
    assert (len(data.train), len(data.test)) == (11, 5)


def test_three_splits(tmp_path: Path) -> None:
    tree(tmp_path, (5, 6), "train")
    tree(tmp_path, (1, 3), "val")
    data = load_image_folder(tree(tmp_path, (2, 1), "test"), RGB)
    assert data.validation is not None
    assert [len(s) for s in (data.train, data.validation, data.test)] == [11, 4, 3]
    assert np.bincount(data.validation.labels).tolist() == [1, 3]
    draw(tmp_path / "val" / "owl" / "x.png", COLOURS["owl"])
    with pytest.raises(RefusedInput, match=r"val has other classes than .*train: owl"):
        load_image_folder(tmp_path, RGB)


@pytest.mark.parametrize(
    "inside", [["1.png"], ["cat/1.png"], ["cat/1.png", "dog/1.png", "x/1.png"]]
)
def test_a_test_folder_of_other_classes_is_not_tested_with(
    tmp_path: Path, inside: list[str]
) -> None:
    tree(tmp_path, (5, 6), "train")
    tree(tmp_path, (2, 3), "val")
    for name in inside:
        draw(tmp_path / "test" / name, COLOURS["cat"])
    data = load_image_folder(tmp_path, RGB)
    assert (len(data.test), data.validation) == (5, None)
    assert data.remarks[0].endswith(
        "test has not the classes of train: the validation images are tested with"
    )


def test_other_classes_in_the_split(tmp_path: Path) -> None:
    tree(tmp_path, (5, 5), "train")
    with pytest.raises(RefusedInput, match=r"other classes.*owl"):
        load_image_folder(tree(tmp_path, (2, 2, 2), "val"), RGB)


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_split_of_one_class_is_refused_where_labels_are_not_needed(
    tmp_path: Path, split: str
) -> None:
    """The images of train would be tested with, as if there were no classes."""
    tree(tmp_path, (4, 4), "train")
    if split == "val":
        tree(tmp_path, (2, 2), "test")
    draw(tmp_path / split / "cat" / "x.png", COLOURS["cat"])
    with pytest.raises(RefusedInput, match=f"{split} has only one class, cat"):
        load_image_folder(tmp_path, RGB, labelled=False)


@pytest.mark.parametrize("below", ["", "train", "training/a/b"])
def test_images_of_no_class_where_labels_are_not_needed(tmp_path: Path, below: str) -> None:
    for index in range(5):
        draw(tmp_path / below / f"{index}.png", COLOURS["cat"])
    if below == "train":  # another split, which is none of its images
        draw(tmp_path / "val" / "x.png", COLOURS["dog"])
    (tmp_path / below / "broken.jpg").write_bytes(b"broken")
    data = load_image_folder(tmp_path, RGB, labelled=False)
    assert (data.labels, data.count, len(data.train), len(data.test)) == ((), 5, 5, 5)
    assert data.skipped[0].endswith("broken.jpg (is not an image that Pillow can read)")
    with pytest.raises(RefusedInput):
        load_image_folder(tmp_path, RGB)


def test_images_of_no_class_beside_a_folder_of_other_files(tmp_path: Path) -> None:
    draw(tmp_path / "0.png", COLOURS["cat"])
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.xml").write_text("<a/>")
    data = load_image_folder(tmp_path, RGB, labelled=False)
    assert (len(data.test), data.labels) == (1, ())
    assert data.remarks == ("left out by their endings: 1 .xml",)
    with pytest.raises(RefusedInput, match=r"annotations holds no image that can be read"):
        load_image_folder(tmp_path, RGB)


@pytest.mark.parametrize("splits", [(), ("train", "test"), ("train", "test", "val")])
def test_an_empty_class_folder_is_told_where_nothing_is_trained(
    tmp_path: Path, splits: tuple[str, ...]
) -> None:
    for below in splits or ("",):
        tree(tmp_path, below=below)
    before = load_image_folder(tmp_path, RGB)
    for below in splits or ("",):
        (tmp_path / below / "empty").mkdir()
    with pytest.raises(RefusedInput, match="empty is empty"):
        load_image_folder(tmp_path, RGB)
    data = load_image_folder(tmp_path, RGB, labelled=False)
    assert (data.labels, data.files) == (before.labels, before.files)
    assert [len(data.train), len(data.test)] == [len(before.train), len(before.test)]
    assert (data.validation is None) == (before.validation is None)
    told = [
        f"the class folder {tmp_path / b / 'empty'} is empty: left out" for b in splits or ("",)
    ]
    assert list(data.remarks) == told


def test_images_of_no_class_are_looked_for_as_those_of_classes_are(tmp_path: Path) -> None:
    for name in ("0.png", ".1.png", "__MACOSX/2.png", "training/curves.png", ".x/3.png"):
        draw(tmp_path / name, COLOURS["cat"])
    (tmp_path / "training" / ".run.lock").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "labels.csv").touch()
    data = load_image_folder(tmp_path, RGB, labelled=False)
    assert (data.labels, data.count) == ((), 1)
    assert data.remarks == ("left out by their endings: 1 .csv",)
    tree(tmp_path)
    told = load_image_folder(tmp_path, RGB, labelled=False).remarks
    assert f"the class folder {tmp_path / 'empty'} is empty: left out" in told


@pytest.mark.parametrize("outer", ["letters", "export/my letters"])
@pytest.mark.parametrize("splits", [(), ("train", "test")])
def test_a_folder_around_a_data_set(tmp_path: Path, outer: str, splits: tuple[str, ...]) -> None:
    """An unpacked archive: what to give instead is told, and can be given."""
    for split in splits or ("",):
        tree(tmp_path / outer, (5, 6, 2), split)
        draw(tmp_path / "__MACOSX" / outer / split / "cat" / "._000.png", COLOURS["cat"])
    with pytest.raises(RefusedInput, match="has only one class") as caught:
        load_image_folder(tmp_path, RGB)
    words = shlex.split(caught.value.remedy)
    assert words[:3] == ["give", "--data", str(tmp_path / outer)]
    assert ", ".join(sorted(splits) or COLOURS) + ", are" in caught.value.remedy
    assert len(load_image_folder(Path(words[2]), RGB).train) > 8


@pytest.mark.parametrize("files", [["1.png"], ["1.png", "2019/1.png", "2020/1.png"], ["a/1.png"]])
def test_a_single_class_is_no_folder_around_a_data_set(tmp_path: Path, files: list[str]) -> None:
    for name in files:
        draw(tmp_path / "cat" / name, COLOURS["cat"])
    with pytest.raises(RefusedInput, match="has only one class, cat") as caught:
        load_image_folder(tmp_path, RGB)
    assert caught.value.remedy == "put the images of each class into a folder of its own"


@pytest.mark.parametrize(
    "name", ["x.zip", "x.ZIP", "x.tar", "x.tar.gz", "x.tgz", "x.7z", "x.rar", "x.tar.xz"]
)
def test_an_archive_is_to_be_unpacked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(RefusedInput, match="is an archive") as caught:
        load_image_folder(tmp_path / name, RGB)
    assert caught.value.remedy.startswith("unpack it first")
    (tmp_path / "x.txt").write_text("")
    for other in (tmp_path / "x.txt", tmp_path / "away.zip"):
        with pytest.raises(RefusedInput, match="is not a folder"):
            load_image_folder(other, RGB)


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    root = tree(tmp_path / "data")
    good = (root / "cat" / "000.png").read_bytes()
    for name, content in ((b"caf\xe9.png", good), (b"x\xe9.jpg", b"broken")):
        (root / "cat" / os.fsdecode(name)).write_bytes(content)
    data = load_image_folder(root, RGB)
    assert len(data.train) + len(data.test) == 21
    assert "x\\udce9.jpg" in data.remarks[0]
    data.remarks[0].encode()
    (root / "dog").rename(root / os.fsdecode(b"dog\xe9"))
    with pytest.raises(RefusedInput, match="not UTF-8") as caught:
        load_image_folder(root, RGB)
    caught.value.cause.encode()


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing"), ("TRAIN", "eval")])
def test_splits_by_other_names(tmp_path: Path, names: tuple[str, str]) -> None:
    tree(tmp_path, (5, 6), names[0])
    data = load_image_folder(tree(tmp_path, (2, 3), names[1]), RGB)
    assert data.labels == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (11, 5)


def test_splits_are_not_taken_for_classes(tmp_path: Path) -> None:
    tree(tmp_path, (5, 6), "fold1")
    with pytest.raises(RefusedInput, match="look like splits"):
        load_image_folder(tree(tmp_path, (2, 3), "fold2"), RGB)
    deeper = tmp_path / "tiny"  # as Tiny ImageNet has it: one folder in each class
    for name in ("a", "b"):
        tree(deeper / name, (5,))
    assert load_image_folder(deeper, RGB).labels == ("a", "b")


def test_classes_of_the_same_folders_are_told(tmp_path: Path) -> None:
    """Pictures in a folder per year: no name is that of a split."""
    for year in ("2023", "2024"):
        for index in range(3):
            for name in ("cat", "dog"):
                draw(tmp_path / name / year / f"{index}.png", COLOURS[name])
    data = load_image_folder(tmp_path, RGB)
    assert data.labels == ("cat", "dog")
    assert data.remarks == (
        "cat, dog all hold the same folders: 2023, 2024; they are taken for classes",
    )
    (tmp_path / "dog").rename(tmp_path / "dev")
    with pytest.raises(RefusedInput, match="look like splits"):
        load_image_folder(tmp_path, RGB)


@pytest.mark.parametrize("beside", [None, "test/1.png", "val/images/1.png", "notes/x.txt"])
def test_train_without_another_split(tmp_path: Path, beside: str | None) -> None:
    root = tree(tmp_path / "f", below="train")
    kept = {file.path for file in find_images(root / "train").test}
    if beside and beside.endswith(".png"):
        draw(root / beside, COLOURS["cat"])
    elif beside:
        (root / beside).parent.mkdir()
        (root / beside).write_text("x")
    data = load_image_folder(root, RGB)
    assert data.labels == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (16, 4)
    assert {file.path for file in find_images(root).test} == kept
    assert data.remarks[-1].endswith("a fifth of train is kept for testing")
    if beside and beside.endswith(".png"):
        folder = root / beside.split("/")[0]
        assert data.remarks[0] == f"{folder} has not the classes of train: left out"


def test_a_class_called_train(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for name in ("freight", "fast"):
        draw(root / "train" / name / "1.png", COLOURS["owl"])
    assert load_image_folder(root, RGB).labels == ("cat", "dog", "train")


def test_what_we_wrote_ourselves_is_no_class(tmp_path: Path) -> None:
    root = tree(tmp_path / "pets")
    before = load_image_folder(root, RGB)
    for place in (root, root / "run1", root / "cat"):  # beside, as a class, and in one
        draw(place / "training" / "curves.png", (9, 9, 9))
        (place / "training" / ".run.lock").touch()
        (place / "training" / "checkpoints" / "step-1").mkdir(parents=True)
    for name, text in (("loaded", '{"schema_version": 1, "artifacts": []}'), (".", "{}")):
        (root / name).mkdir(exist_ok=True)
        (root / name / "manifest.json").write_text(text)
    data = load_image_folder(root, RGB)
    assert data.labels == ("cat", "dog")
    assert np.array_equal(data.train.images, before.train.images)
    assert data.remarks == tuple(
        f"{root / name} is of vgg-deploy itself: not a class"
        for name in ("loaded", "run1", "training")
    )
    (root / "golden").mkdir()
    (root / "golden" / "inputs.npy").write_bytes(b"x")
    with pytest.raises(RefusedInput, match=r"golden holds no image"):
        load_image_folder(root, RGB)
    (root / "manifest.json").write_text('{"schema_version": 1, "artifacts": []}')
    assert load_image_folder(root, RGB).labels == ("cat", "dog")


def test_a_split_called_training_stays_one_where_a_run_was(tmp_path: Path) -> None:
    root = tree(tree(tmp_path, (3, 3), "test"), (5, 5), "training")
    (root / "training" / ".run.lock").touch()
    assert len(load_image_folder(root, RGB).train) == 10


@pytest.mark.parametrize(
    "hidden", ["cat/.thumbs", "cat/deep/.@__thumb", ".picasaoriginals", "__MACOSX/cat", "cat"]
)
def test_what_is_hidden_is_no_image(tmp_path: Path, hidden: str) -> None:
    root = tree(tmp_path / "data")
    draw(root / hidden / (".001.png" if hidden == "cat" else "001.png"), (1, 2, 3))
    data = load_image_folder(root, RGB)
    assert (len(data.train) + len(data.test), data.labels, data.remarks) == (20, ("cat", "dog"), ())


def test_a_hidden_link_is_not_followed(tmp_path: Path) -> None:
    root = tree(tmp_path / "data")
    (root / "cat" / ".again").symlink_to(root / "dog")
    assert len(load_image_folder(root, RGB).train) == 16


def test_linked_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    root = tree(tmp_path / "data")
    before = load_image_folder(root, RGB)
    for index in range(10):
        draw(tmp_path / "elsewhere" / f"{index}.png", COLOURS["cat"])
    for name, target in (
        ("more", "../../elsewhere"),
        ("again", "more"),
        ("up", "../.."),
        ("it", "."),
    ):
        (root / "cat" / name).symlink_to(target)
    data = load_image_folder(root, RGB)
    assert np.bincount(data.train.labels).tolist() == [16, 8]
    assert len(before.train) == 16


def test_other_endings_are_told_or_refused(tmp_path: Path) -> None:
    root = tree(tmp_path)
    for path in list((root / "cat").iterdir())[:4]:
        path.rename(path.with_suffix(".jfif"))
    (root / "dog" / "y.heic").write_bytes(b"y")
    (root / "dog" / "z.HEIC").write_bytes(b"z")
    data = load_image_folder(root, RGB)
    assert len(data.train) + len(data.test) == 20
    assert data.remarks == ("left out by their endings: 2 .heic",)
    draw(root / "owl" / "000.png", COLOURS["owl"])
    (root / "owl" / "000.png").rename(root / "owl" / "000.avif")
    with pytest.raises(RefusedInput, match=r"owl holds no image that can be read, only 1 \.avif"):
        load_image_folder(root, RGB)


def test_a_subfolder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scan = tree(tmp_path), os.scandir
    (root / "cat" / "secret").mkdir()

    def refuse(path: str) -> object:
        if str(path).endswith("secret"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(RefusedInput, match=r"read .*secret: Permission denied"):
        load_image_folder(root, RGB)
