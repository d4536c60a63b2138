"""Folders of images, one per class, as torchvision's ``ImageFolder`` reads them.

    PATH/train/cat/*.jpg  PATH/test/cat/*.jpg     with a split of its own (test, val ...)
    PATH/cat/*.jpg        PATH/dog/*.jpg          a fifth of each class is kept for testing
    PATH/train/cat/*.jpg  alone                   as well

Which images are kept follows from their names alone, so that training and verifying agree. With
train, val and test the best epoch is chosen on val.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgg_deploy import environment
from vgg_deploy.data.classes import listed
from vgg_deploy.data.dataset import Dataset, Split
from vgg_deploy.data.image_tree import ImageFile, Tree, digest_of, find_images
from vgg_deploy.data.images import read_as_stored, to_channels
from vgg_deploy.errors import RefusedInput, ResourceLimit, VggDeployError, and_more
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


@dataclass(kw_only=True)
class _Seen:
    """What is noticed while images are decoded."""

    unread: list[tuple[int, str]] = field(default_factory=list)  # the class, and the file and why
    coloured: int = 0  # images of colours that a grey network does not see


def load_image_folder(root: Path, geometry: Geometry) -> Dataset:
    """All images below ``root`` in memory, classes in the order of their names.

    Images that cannot be read are left out: ``Dataset.skipped`` names them. ``Dataset.remarks``
    names the first ones and tells uneven classes. Raises ``RefusedInput`` for fewer than two
    classes or a class without images, and ``ResourceLimit`` when the images do not fit into memory.
    """
    tree = find_images(root)
    labels = tree.labels
    kinds = (tree.train, tree.test, tree.validation)
    for files in kinds:  # mixed, so that the first few are of all classes
        files.sort(key=lambda f: digest_of(f.path.relative_to(root)))
    _require_memory(sum(map(len, kinds)), geometry)
    seen = _Seen()
    train, test, validation = (_read(root, files, geometry, seen) for files in kinds)
    checked = [(train, "training"), (test, "testing")]
    for split, what in [*checked, *[(validation, "validation")] * bool(tree.validation)]:
        _require_all(root, split, tree, what, seen)
    return Dataset(
        name=f"folder {shown(root.name or root.absolute().name)}",
        source=shown(root),
        train=train,
        test=test,
        labels=labels,
        remarks=tuple(_remarks(train, tree, seen)),
        validation=validation if tree.validation else None,
        skipped=tuple(text for _, text in seen.unread),
    )


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


def _read(root: Path, files: Sequence[ImageFile], geometry: Geometry, seen: _Seen) -> Split:
    """Decode on all cores; what cannot be read is noted."""

    def one(file: ImageFile) -> tuple[Pixels, bool] | str:
        try:
            image = read_as_stored(file.path)
            grey = to_channels(image[np.newaxis], geometry.channels)[0]
            return squared(grey, geometry), geometry.channels == 1 and _coloured(image)
        except VggDeployError as error:
            name = file.path.relative_to(root)
            return shown(f"{name} ({error.cause.removeprefix(str(file.path)).strip()})")

    side = geometry.side
    images = np.empty((len(files), side, side, geometry.channels), np.uint8)
    labels: list[int] = []
    with ThreadPoolExecutor(environment.usable_cores()) as pool:
        for file, found in zip(files, pool.map(one, files), strict=True):
            if isinstance(found, str):
                seen.unread.append((file.label, found))
                continue
            images[len(labels)], coloured = found
            seen.coloured += coloured
            labels.append(file.label)
    return Split(images[: len(labels)], np.array(labels, np.int64))


def _coloured(image: Pixels) -> bool:
    """Whether some pixel is not grey; grey pictures are often stored as RGB."""
    return image.shape[2] == 3 and bool((image[..., :1] != image[..., 1:]).any())


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


def _require_all(root: Path, split: Split, tree: Tree, what: str, seen: _Seen) -> None:
    counts = np.bincount(split.labels, minlength=len(tree.labels))
    empty = np.flatnonzero(counts == 0).tolist()
    if not empty:
        return
    unread = [text for label, text in seen.unread if label in set(empty)]
    more = f"; {len(unread)} of these could not be read, first {unread[0]}" if unread else ""
    need = "at least two, because a fifth is kept for testing" if tree.shared else "one per split"
    raise RefusedInput(
        f"{shown(root)} has no readable {what} images of "
        f"{and_more([tree.labels[label] for label in empty])}{more}",
        f"give every class enough images that can be read: {need}",
    )


def _remarks(train: Split, tree: Tree, seen: _Seen) -> Iterator[str]:
    labels = tree.labels
    yield from tree.remarks
    if tree.others:
        yield f"left out by their endings: {listed(tree.others)}"
    if seen.unread:
        names = [text for _, text in seen.unread]
        yield f"skipped {len(names)} unreadable images: {and_more(names, _NAMED)}"
    if seen.coloured:
        yield f"the network takes grey images: the colour of {seen.coloured:,} of these is dropped"
    counts = np.bincount(train.labels, minlength=len(labels))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] > _IMBALANCED * counts[least]:
        yield (
            f"classes are uneven: {counts[most]:,} images of {labels[most]}, {counts[least]:,} of "
            f"{labels[least]}; accuracy mostly tells of the large ones"
        )
