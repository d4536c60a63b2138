"""Folders of images, one per class, as torchvision's ``ImageFolder`` reads them.

    PATH/train/cat/*.jpg  PATH/test/cat/*.jpg     with a split of its own (test, val ...)
    PATH/cat/*.jpg        PATH/dog/*.jpg          a fifth of each class is kept for testing
    PATH/train/cat/*.jpg  alone                   as well
    PATH/*.jpg                                    where labels are not needed

Which images are kept follows from their names alone, so that training and verifying agree. With
train, val and test the best epoch is chosen on val.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vgg_deploy import environment
from vgg_deploy.data.classes import listed
from vgg_deploy.data.dataset import Dataset, Origin, Split
from vgg_deploy.data.image_tree import (
    ImageFile,
    Tree,
    digest_of,
    find_any_images,
    find_images,
    refuse_single,
)
from vgg_deploy.data.images import read_as_stored, to_channels
from vgg_deploy.data.squares import Geometry, Pixels, squared
from vgg_deploy.errors import (
    RefusedInput,
    ResourceLimit,
    VggDeployError,
    and_more,
    counted,
    os_errors,
)
from vgg_deploy.files import sha256_of, shown

_IMBALANCED = 3.0  # largest class to smallest
_DIGITS = 16  # of a digest: enough to tell files apart
_NAMED = 3  # skipped files that a remark names
_MEMORY_SHARE = 0.6  # of this machine's memory that the images may take


@dataclass(kw_only=True)
class _Noticed:
    """What is noticed while images are decoded."""

    unread: list[tuple[int, str]] = field(default_factory=list)  # the class, and the file and why
    coloured: int = 0  # images of colours that a grey network does not see


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
    name, digest = f"folder {shown(root.name or root.absolute().name)}", _files_digest(tree)
    if seen is not None and tree.kept and not {name, digest} & set(seen):
        tree = tree.all_for_testing()
    refuse_single(tree)
    _require_memory(len(tree.every), geometry)
    noticed = _Noticed()
    train, test, validation = _splits(root, tree, geometry, noticed)
    return Dataset(
        name=name,
        source=shown(root),
        train=train,
        test=test,
        labels=tree.labels,
        remarks=tuple(_remarks(train if len(train) else test, tree, noticed)),
        validation=validation,
        skipped=tuple(text for _, text in noticed.unread),
        files=digest,
    )


def _splits(
    root: Path, tree: Tree, geometry: Geometry, noticed: _Noticed
) -> tuple[Split, Split, Split | None]:
    """The images of each split, and of none for validation where there are no such files."""

    def read(files: Sequence[ImageFile]) -> Split:
        # mixed, so that the first few are of all classes
        ordered = sorted(files, key=lambda f: digest_of(f.path.relative_to(root)))
        return _read(root, ordered, geometry, noticed)

    train = read(tree.train)
    test = train if tree.test is tree.train else read(tree.test)
    validation = read(tree.validation) if tree.validation else None
    if tree.train:
        _require_all(root, train, tree, "training", noticed)
    _require_all(root, test, tree, "testing", noticed)
    if validation is not None:
        _require_all(root, validation, tree, "validation", noticed)
    return train, test, validation


def _files_digest(tree: Tree) -> str:
    """What tells the images from others, wherever they lie: names and sizes, in hexadecimal."""
    found = sorted((f.path.relative_to(tree.base), _size(f.path)) for f in tree.every)
    digest = hashlib.sha256()
    for path, size in found:
        digest.update(digest_of(path) + size.to_bytes(8, "big", signed=True))
    return digest.hexdigest()[:16]


def _size(path: Path) -> int:
    """In bytes; -1 where it cannot be read, as of a link that leads nowhere."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


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


def _read(root: Path, files: Sequence[ImageFile], geometry: Geometry, noticed: _Noticed) -> Split:
    """Decode on all cores; what cannot be read is noted."""

    def one(file: ImageFile) -> tuple[Pixels, bool, Origin] | str:
        name = shown(file.path.relative_to(root).as_posix())
        try:
            image = read_as_stored(file.path)
            grey = to_channels(image[np.newaxis], geometry.channels)[0]
            coloured = geometry.channels == 1 and _coloured(image)
            with os_errors(f"read {shown(file.path)}"):
                origin = Origin(name, sha256_of(file.path)[:_DIGITS])
            return squared(grey, geometry), coloured, origin
        except VggDeployError as error:
            return shown(f"{name} ({error.cause.removeprefix(str(file.path)).strip()})")

    side = geometry.side
    images = np.empty((len(files), side, side, geometry.channels), np.uint8)
    labels: list[int] = []
    origins: list[Origin] = []
    with ThreadPoolExecutor(environment.usable_cores()) as pool:
        for file, found in zip(files, pool.map(one, files), strict=True):
            if isinstance(found, str):
                noticed.unread.append((file.label, found))
                continue
            images[len(labels)], coloured, origin = found
            noticed.coloured += coloured
            labels.append(file.label)
            origins.append(origin)
    return Split(images[: len(labels)], np.array(labels, np.int64), tuple(origins))


def _coloured(image: Pixels) -> bool:
    """Whether some pixel is not grey; grey pictures are often stored as RGB."""
    return image.shape[2] == 3 and bool((image[..., :1] != image[..., 1:]).any())


def _require_all(root: Path, split: Split, tree: Tree, what: str, noticed: _Noticed) -> None:
    if not tree.labels:
        _require_some(root, split, noticed)
        return
    counts = np.bincount(split.labels, minlength=len(tree.labels))
    empty = np.flatnonzero(counts == 0).tolist()
    if not empty:
        return
    unread = [text for label, text in noticed.unread if label in set(empty)]
    more = f"; {len(unread)} of these could not be read, first {unread[0]}" if unread else ""
    need = "at least two, because a fifth is kept for testing" if tree.kept else "one per split"
    raise RefusedInput(
        f"{shown(root)} has no readable {what} images of "
        f"{and_more([tree.labels[label] for label in empty])}{more}",
        f"give every class enough images that can be read: {need}",
    )


def _require_some(root: Path, split: Split, noticed: _Noticed) -> None:
    if len(split):
        return
    count, (_, first) = len(noticed.unread), noticed.unread[0]
    raise RefusedInput(
        f"{shown(root)} has no readable images; {count} could not be read, first {first}",
        "give some",
    )


def _remarks(split: Split, tree: Tree, noticed: _Noticed) -> Iterator[str]:
    labels = tree.labels
    yield from tree.remarks
    if tree.kept_remark:
        yield tree.kept_remark
    if tree.others:
        yield f"left out by their endings: {listed(tree.others)}"
    if noticed.unread:
        names = [text for _, text in noticed.unread]
        yield f"skipped {counted(len(names), 'unreadable image')}: {and_more(names, _NAMED)}"
    if noticed.coloured:
        count = noticed.coloured
        yield f"the network takes grey images: the colour of {count:,} of these is dropped"
    if not labels:
        return
    counts = np.bincount(split.labels, minlength=len(labels))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] > _IMBALANCED * counts[least]:
        yield (
            f"classes are uneven: {counted(int(counts[most]), 'image')} of {labels[most]}, "
            f"{counts[least]:,} of {labels[least]}; accuracy mostly tells of the large ones"
        )
