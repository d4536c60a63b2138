"""A labelled image set in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.errors import RefusedInput, and_more


@dataclass(frozen=True)
class Origin:
    """The file that an image was read from."""

    file: str  # below the data set's folder, as it can be printed
    sha256: str  # of its bytes, the first 16 digits


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their classes: uint8 ``[N, H, W, C]`` and int64 ``[N]``.

    ``origins`` has a file for each image, or is empty where images have none of their own.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    origins: tuple[Origin, ...] = ()

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8:
            raise RefusedInput(
                f"images of type {self.images.dtype} and shape {self.images.shape}",
                "give uint8 images of shape [N, H, W, C]",
            )
        if self.labels.shape != self.images.shape[:1]:
            raise RefusedInput(
                f"{len(self.images)} images with labels of shape {self.labels.shape}",
                "give one label per image",
            )
        if self.origins and len(self.origins) != len(self.labels):
            raise RefusedInput(
                f"{len(self.labels)} images from {len(self.origins)} files", "give one per image"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, count: int | None) -> Split:
        """The first ``count`` images, or all of them for None."""
        return Split(self.images[:count], self.labels[:count], self.origins[:count])

    def where(self, chosen: NDArray[np.bool_]) -> Split:
        """The images that are marked, in their order."""
        origins = tuple(compress(self.origins, chosen))
        return Split(self.images[chosen], self.labels[chosen], origins)


def held_out(train: Split, share: float, labels: Sequence[str]) -> NDArray[np.bool_]:
    """Marks the last ``share`` (0..1) of every class, at least one: not to be trained with.

    ``RefusedInput``, with the classes' names from ``labels``, for classes of a single image.
    """
    held = np.zeros(len(train), bool)
    classes, counts = np.unique(train.labels, return_counts=True)
    if single := [labels[label] for label in classes[counts < 2]]:
        raise RefusedInput(
            f"{and_more(single)} {'have' if single[1:] else 'has'} a single training image, so "
            "none can be held out",
            "train without --validation, or with more images",
        )
    for label, number in zip(classes, counts, strict=True):
        count = int(number * share + 1e-9)  # 0.1 of 30 is 3
        held[np.flatnonzero(train.labels == label)[-max(1, count) :]] = True
    return held


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set with its splits."""

    name: str  # "fashion-mnist", "sample", or "folder NAME"
    source: str  # where it was found, for people
    train: Split
    test: Split
    labels: tuple[str, ...]  # class names, by label; empty for images of no class
    remarks: tuple[str, ...] = ()  # for people: what was left out, what is uneven
    validation: Split | None = None  # to choose the best epoch with
    skipped: tuple[str, ...] = ()  # every image that could not be read, and why
    files: str = ""  # of a folder: what tells its files from others, wherever they lie

    @property
    def is_whole(self) -> bool:
        """Whether every image is for testing."""
        return self.train is self.test or not len(self.train)

    @property
    def count(self) -> int:
        """Images of all splits."""
        if self.is_whole:
            return len(self.test)
        return len(self.train) + len(self.test) + len(self.validation or ())

    def trained(self, count: int | None, share: float) -> NDArray[np.bool_]:
        """Marks the images of ``train`` that are trained with.

        They are the first ``count``, less the ``share`` that is held out of them to choose the best
        epoch; none is where there is a split for that. Raises what ``held_out`` raises.
        """
        first = self.train.take(count)
        marked = np.arange(len(self.train)) < len(first)
        if share and self.validation is None:
            marked[: len(first)] = ~held_out(first, share, self.labels)
        return marked

    def fingerprint(self) -> str:
        """Name, counts and a digest of all images and labels: what tells data sets apart."""
        digest = hashlib.sha256()
        splits = [self.train, self.test, *filter(None, [self.validation])]
        for split in splits:
            for values in (split.images, split.labels):
                digest.update(np.ascontiguousarray(values).data)
        counts = "+".join(str(len(split)) for split in splits)
        return f"{self.name}, {counts} images, {digest.hexdigest()[:16]}"
