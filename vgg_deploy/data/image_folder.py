"""Folders of images, one per class, as torchvision's ``ImageFolder`` reads them.

    PATH/train/cat/*.jpg  PATH/test/cat/*.jpg     with a split of its own (test, val ...)
    PATH/cat/*.jpg        PATH/dog/*.jpg          a fifth of each class is kept for testing
    PATH/*.jpg                                    where labels are not needed

Which images are kept follows from their names alone, so that training and verifying agree. With
train, val and test the best epoch is chosen on val.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgg_deploy import environment
from vgg_deploy.data.dataset import Dataset, Split
from vgg_deploy.data.image_tree import (
    ImageFile,
    Tree,
    digest_of,
    find_any_images,
    find_images,
    listed,
)
from vgg_deploy.data.images import read_image
from vgg_deploy.errors import RefusedInput, ResourceLimit, VggDeployError, os_errors
from vgg_deploy.files import shown

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


def load_image_folder(
    root: Path,
    geometry: Geometry,
    *,
    seen: Collection[str] | None = None,
    labelled: bool = True,
) -> Dataset:
    """All images below ``root`` in memory, classes in the order of their names.

    ``seen`` are the data sets, by name or by ``Dataset.files``, that a network has seen: another
    one without splits is for testing as a whole. Unless ``labelled``, images that are not in class
    folders do, too.

    Images that cannot be read are left out: ``Dataset.skipped`` names them. ``Dataset.remarks``
    names the first ones and tells uneven classes. Raises ``RefusedInput`` for fewer than two
    classes or a class without images, and ``ResourceLimit`` when the images do not fit into memory.
    """
    tree = find_images(root) if labelled else find_any_images(root)
    name, digest = f"folder {shown(root.name or root.absolute().name)}", _files_digest(root, tree)
    if seen is not None and tree.kept and not {name, digest} & set(seen):
        tree = tree.all_for_testing()
    _require_memory(len(tree.every), geometry)
    skipped: list[str] = []
    train, test, validation = _splits(root, tree, geometry, skipped)
    return Dataset(
        name=name,
        source=shown(root),
        train=train,
        test=test,
        labels=tree.labels,
        remarks=tuple(_remarks(train if len(train) else test, tree, skipped)),
        validation=validation,
        skipped=tuple(skipped),
        files=digest,
    )


def _splits(
    root: Path, tree: Tree, geometry: Geometry, skipped: list[str]
) -> tuple[Split, Split, Split | None]:
    """The images of each split; what cannot be read is noted."""

    def read(files: list[ImageFile], what: str) -> Split:
        # mixed, so that the first few are of all classes
        files.sort(key=lambda f: digest_of(f.path.relative_to(root)))
        split = _read(root, files, geometry, skipped)
        _require_all(root, split, tree.labels, what, skipped)
        return split

    if not tree.labels:
        one = read(tree.train, "")
        return one, one, None
    empty = Split(np.empty((0, 0, 0, geometry.channels), np.uint8), np.empty(0, np.int64))
    train = read(tree.train, "training") if tree.train else empty
    test = read(tree.test, "testing")
    return train, test, read(tree.validation, "validation") if tree.validation else None


def _files_digest(root: Path, tree: Tree) -> str:
    """What tells the images from others, wherever they lie: names and sizes, in hexadecimal."""
    with os_errors(f"read {shown(root)}"):
        found = sorted((f.path.relative_to(root), f.path.stat().st_size) for f in tree.every)
    digest = hashlib.sha256()
    for path, size in found:
        digest.update(digest_of(path) + size.to_bytes(8, "big"))
    return digest.hexdigest()[:16]


def _require_memory(count: int, geometry: Geometry) -> None:
    # every process of this machine holds all images
    copies = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed = count * geometry.side**2 * geometry.channels * copies
    present = environment.capture().memory_bytes
    times = f" in {copies} processes" if copies > 1 else ""
    if present and needed > _MEMORY_SHARE * present:
        raise ResourceLimit(
            f"{count:,} images of {geometry.side} px{times} need {needed / 1e9:.1f} GB of memory, "
            f"this machine has {present / 1e9:.1f}",
            "use a smaller --size or fewer images",
        )


def _read(root: Path, files: Sequence[ImageFile], geometry: Geometry, skipped: list[str]) -> Split:
    """Decode on all cores; what cannot be read is noted."""

    def one(file: ImageFile) -> Pixels | str:
        try:
            return squared(read_image(file.path, geometry.channels)[0], geometry)
        except VggDeployError as error:
            name = file.path.relative_to(root)
            return shown(f"{name} ({error.cause.removeprefix(str(file.path)).strip()})")

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
    """uint8 ``[H, W, C]`` as ``[side, side, C]``; resizing is bilinear and antialiased.

    Only what the crop keeps is resized: all of a long strip would be gigabytes.
    """
    height, width, channels = image.shape
    side = geometry.side
    short = min(height, width)
    rows, top, bottom = _kept(height, short if geometry.cropped else height, side)
    columns, left, right = _kept(width, short if geometry.cropped else width, side)
    cut = np.ascontiguousarray(image[rows, columns])
    picture = Image.fromarray(cut[..., 0] if channels == 1 else cut).resize(
        (side, side), Image.Resampling.BILINEAR, box=(left, top, right, bottom)
    )
    return np.asarray(picture, np.uint8).reshape(side, side, channels)


def _kept(length: int, short: int, side: int) -> tuple[slice, float, float]:
    """The pixels of an axis that the crop is made from, and where in them it starts and ends.

    ``short`` is the length that becomes ``side``. Pillow's box is float32: counted from the slice
    it stays exact however long the axis is.
    """
    resized = max(side, round(length * (side / short)))
    before = (resized - side) // 2
    start, end = before * length / resized, (before + side) * length / resized
    reach = math.ceil(max(1.0, length / resized)) + 1  # of the filter, beyond the box
    first, last = max(0, int(start) - reach), min(length, math.ceil(end) + reach)
    return slice(first, last), start - first, end - first


def _require_all(
    root: Path, split: Split, labels: Sequence[str], what: str, skipped: Sequence[str]
) -> None:
    more = f"; {len(skipped)} could not be read, first {skipped[0]}" if skipped else ""
    if not labels:
        if not len(split):
            raise RefusedInput(f"{shown(root)} has no readable images{more}", "give some")
        return
    counts = np.bincount(split.labels, minlength=len(labels))
    if empty := [name for name, count in zip(labels, counts, strict=True) if not count]:
        raise RefusedInput(
            f"{shown(root)} has no readable {what} images of {', '.join(empty[:5])}{more}",
            "give every class at least one image in every split",
        )


def _remarks(train: Split, tree: Tree, skipped: Sequence[str]) -> Iterator[str]:
    labels = tree.labels
    if tree.unlabelled:
        name = shown(tree.unlabelled)
        yield f"{name} has not the classes of train: the validation images are tested with"
    if tree.others:
        yield f"left out by their endings: {listed(tree.others)}"
    if skipped:
        more = f" and {len(skipped) - _NAMED} more" if len(skipped) > _NAMED else ""
        yield f"skipped {len(skipped)} unreadable images: {', '.join(skipped[:_NAMED])}{more}"
    if not labels:
        return
    counts = np.bincount(train.labels, minlength=len(labels))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] > _IMBALANCED * counts[least]:
        yield (
            f"classes are uneven: {counts[most]:,} images of {labels[most]}, {counts[least]:,} of "
            f"{labels[least]}; accuracy mostly tells of the large ones"
        )
