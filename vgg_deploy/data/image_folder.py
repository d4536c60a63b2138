"""Folders of images, one per class, as torchvision's ``ImageFolder`` reads them.

    PATH/train/cat/*.jpg  PATH/val/cat/*.jpg      with a split of its own (val, valid or test)
    PATH/cat/*.jpg        PATH/dog/*.jpg          a fifth of each class is kept for testing

Which images are kept follows from their names alone, so that training and verifying agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgg_deploy import environment
from vgg_deploy.data.dataset import Dataset, Split
from vgg_deploy.data.images import read_image
from vgg_deploy.errors import RefusedInput, ResourceLimit, VggDeployError, os_errors

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_TRAIN, _TESTS = "train", ("val", "valid", "validation", "test")
_KEPT_FOR_TEST = 5  # one of so many
_IMBALANCED = 3.0  # largest class to smallest
_NAMED = 3  # skipped files that a remark names
_MEMORY_SHARE = 0.6  # of this machine's memory that the images may take

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How images of any size become squares of one: what comes before the preprocessing.

    The shorter side is resized to ``side``, then the centre is cut out; or, where the preprocessing
    does that, too, both sides are resized to ``side``.
    """

    side: int  # pixels
    channels: int
    cropped: bool = True


@dataclass(frozen=True, kw_only=True)
class _File:
    path: Path
    label: int


def load_image_folder(root: Path, geometry: Geometry) -> Dataset:
    """All images below ``root`` in memory, classes in the order of their names.

    Images that cannot be read are left out; ``Dataset.remarks`` names them and tells uneven
    classes. Raises ``RefusedInput`` for fewer than two classes or a class without images, and
    ``ResourceLimit`` when the images do not fit into memory.
    """
    labels, train_files, test_files = _found(root)
    for files in (train_files, test_files):  # mixed, so that the first few are of all classes
        files.sort(key=lambda f: _digest(f.path.relative_to(root)))
    _require_memory(len(train_files) + len(test_files), geometry)
    skipped: list[str] = []
    train = _read(root, train_files, geometry, skipped)
    test = _read(root, test_files, geometry, skipped)
    for split, what in ((train, "training"), (test, "testing")):
        _require_all(root, split, labels, what, skipped)
    return Dataset(
        name=f"folder {root.name or root.absolute().name}",
        source=str(root),
        train=train,
        test=test,
        labels=labels,
        remarks=tuple(_remarks(train, labels, skipped)),
    )


def _found(root: Path) -> tuple[tuple[str, ...], list[_File], list[_File]]:
    """Class names, training files, test files."""
    if not root.is_dir():
        raise RefusedInput(f"data set {root} is not a folder", "give a folder with one per class")
    with os_errors(f"read {root}"):
        own_test = next((root / name for name in _TESTS if (root / name).is_dir()), None)
        if (root / _TRAIN).is_dir() and own_test:
            labels = _classes(root / _TRAIN)
            if (others := _classes(own_test)) != labels:
                odd = sorted(set(labels) ^ set(others))
                raise RefusedInput(
                    f"{own_test} has other classes than {root / _TRAIN}: {', '.join(odd[:5])}",
                    "give both the same folders",
                )
            return labels, list(_files(root / _TRAIN, labels)), list(_files(own_test, labels))
        labels = _classes(root)
        every = list(_files(root, labels))
    tests = _kept_for_test(root, every)
    return labels, [f for f in every if f not in tests], [f for f in every if f in tests]


def _classes(folder: Path) -> tuple[str, ...]:
    names = sorted(
        p.name
        for p in folder.iterdir()
        if p.is_dir() and not p.name.startswith(".") and any(map(_is_image, p.rglob("*")))
    )
    if len(names) < 2:
        what = f"only one class, {names[0]}" if names else "no class folders with images"
        raise RefusedInput(
            f"{folder} has {what}", "put the images of each class into a folder of its own"
        )
    return tuple(names)


def _files(folder: Path, labels: Sequence[str]) -> Iterator[_File]:
    for index, name in enumerate(labels):
        for path in sorted((folder / name).rglob("*")):
            if _is_image(path):
                yield _File(path=path, label=index)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _kept_for_test(root: Path, files: Sequence[_File]) -> set[_File]:
    """Of each class every fifth in the order of a digest of its name, at least one."""
    classes: dict[int, list[_File]] = {}
    for file in sorted(files, key=lambda f: _digest(f.path.relative_to(root))):
        classes.setdefault(file.label, []).append(file)
    return {f for own in classes.values() for f in own[: max(1, len(own) // _KEPT_FOR_TEST)]}


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.as_posix().encode()).digest()


def _require_memory(count: int, geometry: Geometry) -> None:
    needed = count * geometry.side**2 * geometry.channels
    present = environment.capture().memory_bytes
    if present and needed > _MEMORY_SHARE * present:
        raise ResourceLimit(
            f"{count:,} images of {geometry.side} px need {needed / 1e9:.1f} GB of memory, this "
            f"machine has {present / 1e9:.1f}",
            "use a smaller --size or fewer images",
        )


def _read(root: Path, files: Sequence[_File], geometry: Geometry, skipped: list[str]) -> Split:
    """Decode on all cores; what cannot be read is noted."""

    def one(file: _File) -> Pixels | str:
        try:
            return squared(read_image(file.path, geometry.channels)[0], geometry)
        except VggDeployError as error:
            name = file.path.relative_to(root)
            return f"{name} ({error.cause.removeprefix(str(file.path)).strip()})"

    side = geometry.side
    images = np.empty((len(files), side, side, geometry.channels), np.uint8)
    labels: list[int] = []
    with ThreadPoolExecutor(environment.usable_cores()) as pool:
        for file, found in zip(files, pool.map(one, files), strict=True):
            if isinstance(found, str):
                skipped.append(found)
                continue
            images[len(labels)] = found
            labels.append(file.label)
    return Split(images[: len(labels)], np.array(labels, np.int64))


def squared(image: Pixels, geometry: Geometry) -> Pixels:
    """uint8 ``[H, W, C]`` as ``[side, side, C]``; resizing is bilinear and antialiased."""
    height, width, channels = image.shape
    side = geometry.side
    size = (side, side)
    if geometry.cropped:
        scale = side / min(height, width)
        size = (max(side, round(width * scale)), max(side, round(height * scale)))
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    cut = picture.crop((left, top, left + side, top + side))
    return np.asarray(cut, np.uint8).reshape(side, side, channels)


def _require_all(
    root: Path, split: Split, labels: Sequence[str], what: str, skipped: Sequence[str]
) -> None:
    counts = np.bincount(split.labels, minlength=len(labels))
    if empty := [name for name, count in zip(labels, counts, strict=True) if not count]:
        more = f"; {len(skipped)} could not be read, first {skipped[0]}" if skipped else ""
        raise RefusedInput(
            f"{root} has no readable {what} images of {', '.join(empty[:5])}{more}",
            "give every class at least one image to train with and one to test with",
        )


def _remarks(train: Split, labels: Sequence[str], skipped: Sequence[str]) -> Iterator[str]:
    if skipped:
        more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
        yield f"skipped {len(skipped)} unreadable images: {', '.join(skipped[:_NAMED])}{more}"
    counts = np.bincount(train.labels, minlength=len(labels))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] > _IMBALANCED * counts[least]:
        yield (
            f"classes are uneven: {counts[most]:,} images of {labels[most]}, {counts[least]:,} of "
            f"{labels[least]}; accuracy mostly tells of the large ones"
        )
