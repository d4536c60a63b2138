"""What a session answers on labelled images, and how that compares with torch eager."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.artifact import TensorSpec
from vgg_deploy.backends.base import Array
from vgg_deploy.data.images import to_channels
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.errors import RefusedInput
from vgg_deploy.results import Accuracy
from vgg_deploy.spec import Preprocessing
from vgg_deploy.verify.inputs import network_size, takes_one_size

BATCH = 100  # divides the 10,000 and 1,000 test images, so that one shape serves all
TOP = 5
_CONFUSION_CLASSES = 100  # a larger table is nothing to look at
_NO_ANSWER = -1

Run = Callable[[Array], Array]


@dataclass(frozen=True)
class Answers:
    """First class of each image (-1 for NaN), and whether the label is among the first five."""

    first: NDArray[np.int64]
    in_top: NDArray[np.bool_]


def answers(
    run: Run,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    preprocessing: Preprocessing,
    spec: TensorSpec,
    *,
    chosen: NDArray[np.intp] | None = None,
    batch: int = BATCH,
    on_batch: Callable[[int], None] = lambda _: None,
    rounded: bool = False,
) -> Answers:
    """Run all images ``[N, H, W, C]``, or those ``chosen``; NaN never counts as an answer.

    With ``rounded`` they are resized to uint8 first, as for a file that does not resize.

    The last batch is filled with the first images, because some files take one size only.
    """
    places = np.arange(len(images)) if chosen is None else chosen
    first, in_top, count = [], [], len(places)
    for chunk in (places[part] for part in _chunks(count, batch)):
        pixels = to_channels(images[chunk], preprocessing.channels)
        if rounded or takes_one_size(spec):
            pixels = network_size(pixels, preprocessing)
        p = replace(preprocessing, resize=None) if rounded else preprocessing
        logits = run(pixels if spec.dtype == "uint8" else preprocess(pixels, p))
        finite = np.isfinite(logits).all(axis=1)
        top = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
        first.append(np.where(finite, top[:, 0], _NO_ANSWER))
        in_top.append((top == labels[chunk][:, None]).any(axis=1) & finite)
        on_batch(len(chunk))
    return Answers(np.concatenate(first)[:count], np.concatenate(in_top)[:count])


def accuracy_of(
    found: Answers,
    eager: Answers,
    labels: NDArray[np.int64],
    classes: int,
    dataset: str,
    *,
    split: str = "test",
    available: int | None = None,
) -> Accuracy:
    """Hits, and what was lost and won against torch eager on the same ``len(labels)`` images."""
    right, was_right = found.first == labels, eager.first == labels
    return Accuracy(
        dataset=dataset,
        split=split,
        correct=int(right.sum()),
        total=len(labels),
        top5_correct=int(found.in_top.sum()),
        lost=int((was_right & ~right).sum()),
        won=int((right & ~was_right).sum()),
        top5_lost=int(eager.in_top.sum()) - int(found.in_top.sum()),
        confusion=confusion(found.first, labels, classes),
        available=available,
    )


def confusion(
    first: NDArray[np.int64], labels: NDArray[np.int64], classes: int
) -> tuple[tuple[int, ...], ...]:
    """Images by label (row) and answer (column); empty for many classes."""
    if classes > _CONFUSION_CLASSES:
        return ()
    answered = first != _NO_ANSWER
    cells = labels[answered] * classes + first[answered]
    table = np.bincount(cells, minlength=classes * classes).reshape(classes, classes)
    return tuple(tuple(int(n) for n in row) for row in table)


def refuse_untrained(eager: Answers, labels: NDArray[np.int64], budget: float) -> None:
    """Refuse a budget of accuracy where always naming one class would keep it."""
    share = np.bincount(labels).max() / len(labels)
    top1 = float(np.mean(eager.first == labels))
    if 100 * (top1 - share) <= budget:
        raise RefusedInput(
            f"the model itself is right on {top1:.1%} of the images, always naming one class on "
            f"{share:.1%}: a drop of {budget:g} points proves nothing",
            "train the model first",
        )


def _chunks(count: int, size: int) -> Iterator[NDArray[np.intp]]:
    for start in range(0, count, size):
        yield np.arange(start, start + size) % count
