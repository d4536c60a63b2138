"""``training/images.csv``: which images of a folder a network was trained, chosen or tested with.

Images are known by their content, so the record holds wherever the folder or the bundle goes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from vgg_deploy.bundle import Bundle
from vgg_deploy.data.dataset import Dataset, Split
from vgg_deploy.errors import os_errors
from vgg_deploy.files import atomic, sha256_of, shown
from vgg_deploy.replacing import TRAINING
from vgg_deploy.train.options import TrainOptions

IMAGES_FILE = "images.csv"
KEY = "images_file"  # in made_by: the file's SHA-256
TRAIN, VALIDATION, TEST = "train", "validation", "test"
UNUSED = "unused"  # beyond --max-images
OF_THE_WEIGHTS = "train of the weights"  # that a fine-tuned network began with
SEEN = (TRAIN, VALIDATION, OF_THE_WEIGHTS)  # those that accuracy must not be told on


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """A line of the file."""

    file: str
    label: str
    part: str
    sha256: str  # the first 16 digits


_HEADER = tuple({"label": "class"}.get(f.name, f.name) for f in fields(ImageRow))


def rows_of(dataset: Dataset, options: TrainOptions) -> list[ImageRow]:
    """A row for every image of a data set that is trained with; none where images have no files."""
    trained = dataset.trained(options.max_images, options.validation)
    first = len(dataset.train.take(options.max_images))
    parts = [TRAIN if one else VALIDATION for one in trained[:first]]
    parts += [UNUSED] * (len(trained) - first)
    rows = [*_rows(dataset.train, parts, dataset.labels)]
    for split, part in ((dataset.validation, VALIDATION), (dataset.test, TEST)):
        if split:
            rows += _rows(split, [part] * len(split), dataset.labels)
    return rows


def _rows(split: Split, parts: Sequence[str], labels: Sequence[str]) -> Iterator[ImageRow]:
    if split.origins:
        for origin, label, part in zip(split.origins, split.labels, parts, strict=True):
            yield ImageRow(
                file=origin.file, label=shown(labels[label]), part=part, sha256=origin.sha256
            )


def inherited(source: Bundle | None) -> tuple[ImageRow, ...]:
    """What the weights of a bundle have seen, as rows of a network that begins with them."""
    known = (record_of(source) if source else None) or ()
    rows = (row for row in known if row.part in SEEN)
    return tuple(
        ImageRow(file=row.file, label=row.label, part=OF_THE_WEIGHTS, sha256=row.sha256)
        for row in {row.sha256: row for row in rows}.values()
    )


def copies(dataset: Dataset, options: TrainOptions, before: Sequence[ImageRow]) -> Iterator[str]:
    """For people: test images that are trained or chosen with, too, or were before."""
    here = dataset.train.take(options.max_images).origins
    if dataset.validation:
        here += dataset.validation.origins
    for digests, what in (
        ({origin.sha256 for origin in here}, "are images to train or choose with, too"),
        ({row.sha256 for row in before}, "were training images of the weights to begin with"),
    ):
        both = [origin.file for origin in dataset.test.origins if origin.sha256 in digests]
        if both:
            yield f"{len(both):,} of {len(dataset.test):,} test images {what}: first {both[0]}"


def write_images(root: Path, rows: Sequence[ImageRow]) -> str:
    """Write the file of a bundle and give its SHA-256; without rows none stays, and it is empty."""
    path = root / TRAINING / IMAGES_FILE
    if not rows:
        with os_errors(f"remove {path}"):
            path.unlink(missing_ok=True)
        return ""
    held = io.StringIO()
    # quoted, as a lone \r in a name would be read as a line's end
    writer = csv.writer(held, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([_HEADER, *map(astuple, rows)])
    with atomic(path) as partial, os_errors(f"write {path}"):
        partial.write_bytes(held.getvalue().encode())  # text has CRLF on Windows
    return sha256_of(path)


def record_of(bundle: Bundle) -> tuple[ImageRow, ...] | None:
    """The rows of a bundle's own file.

    None where it has none, where that is not the one it was made with, and where it cannot be read.
    """
    path, wanted = bundle.root / TRAINING / IMAGES_FILE, bundle.checkpoint.made_by.get(KEY)
    if not wanted:
        return None
    try:
        if not path.is_file() or sha256_of(path) != wanted:
            return None
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(_read(file))
    except (OSError, ValueError, csv.Error):
        return None


def _read(file: Iterable[str]) -> Iterator[ImageRow]:
    """The columns by their names: a later version may have more of them."""
    reader = csv.DictReader(file)
    if not set(_HEADER) <= set(reader.fieldnames or ()):
        raise ValueError("columns are missing")
    for line in reader:
        name, label, part, digest = (line[column] for column in _HEADER)
        if None in (name, label, part, digest):
            raise ValueError("a line is too short")
        yield ImageRow(file=name, label=label, part=part, sha256=digest)
