"""The images activations are measured on, and the ranges that follow from what was seen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.data.images import to_channels
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.data.sources import open_dataset
from vgg_deploy.errors import RefusedInput, UsageError
from vgg_deploy.precision.observe import BINS, Histogram
from vgg_deploy.precision.options import CalibrationOptions
from vgg_deploy.spec import NAMED_DATA, ModelCard, Preprocessing

LEVELS = 128  # magnitudes of a symmetric int8
BATCH = 8  # TensorRT's advice: never calibrate with batch 1
_STEP = 16  # bins between two candidate thresholds
_SMALLEST_SHARE = 1e-9
Pixels = NDArray[np.uint8]
Done = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class CalibrationSet:
    """Two disjoint draws from a **training** split, uint8 ``[N, H, W, C]``."""

    measured: Pixels  # ranges come from these
    held_out: Pixels  # candidates are compared on these
    source: str


def calibration_set(card: ModelCard, options: CalibrationOptions) -> CalibrationSet:
    """Draw images from the training split of the data set asked for, or of the model's own.

    Of a folder without classes from all images: labels are not looked at.

    Raises ``UsageError`` when nobody says what data the model is for, ``RefusedInput`` when the
    split is too small.
    """
    if options.data is None and not has_own_data(card):
        raise _nothing_named(card)
    source = source_of(card, options)
    dataset = open_dataset(source, options.data_dir, card.preprocessing, labelled=False)
    if len(dataset.train) < 2 * options.count:
        raise RefusedInput(
            f"{2 * options.count} images are needed to calibrate and to compare, "
            f"{dataset.name} has {len(dataset.train)} for training",
            f"use at most --calibration-images {len(dataset.train) // 2}",
        )
    order = np.random.default_rng(options.seed).permutation(len(dataset.train))
    drawn = np.split(order[: 2 * options.count], 2)
    channels = card.preprocessing.channels
    measured, held_out = (to_channels(dataset.train.images[i], channels) for i in drawn)
    return CalibrationSet(measured, held_out, f"{dataset.name} train")


def has_own_data(card: ModelCard) -> bool:
    """Whether the images that the model was trained on can be had without being named."""
    return card.dataset in NAMED_DATA


def source_of(card: ModelCard, options: CalibrationOptions) -> str:
    """What ``--data`` would be called: what was asked for, else the model's own data set."""
    own = card.dataset == "sample" and options.data_dir is None
    return options.data or ("sample" if own else "auto")


def _nothing_named(card: ModelCard) -> UsageError:
    if (card.dataset or "").startswith("folder "):
        return UsageError(
            f"the model was trained on {card.dataset}, and where those images lie is not kept",
            "name them to calibrate with: --calibration-data PATH, which train had as --data",
        )
    what = (
        f"the model was trained on {card.dataset}, whose images vgg-deploy cannot fetch"
        if card.dataset
        else "the model does not say which data set it was trained on, so there is nothing to "
        "calibrate with"
    )
    return UsageError(
        what,
        "name some that are like its input: --calibration-data PATH, a folder of images, or "
        "--calibration-data fashion-mnist",
    )


def digest_of(images: CalibrationSet) -> str:
    """What tells the images of two folders of the same name apart."""
    digest = hashlib.sha256()
    for part in (images.measured, images.held_out):
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()[:16]


def batches(
    images: Pixels, p: Preprocessing, done: Done = lambda _: None
) -> Iterator[NDArray[np.float32]]:
    """``images`` preprocessed, eight at a time: float32 ``[8, C, S, S]``.

    ``done`` is told how many images were worked on, when the next ones are asked for.
    """
    for start in range(0, len(images), BATCH):
        part = preprocess(images[start : start + BATCH], p)
        yield part
        done(len(part))


def entropy_threshold(histogram: Histogram) -> float:
    """The clipping magnitude whose 128 levels lose the least information, by divergence.

    Migacz, "8-bit Inference with TensorRT" (GTC 2017, S7310). The largest value seen where no
    clipping is better, or where nothing but zeros was seen.
    """
    counts, width = histogram.counts.astype(np.float64), histogram.top / BINS
    total = counts.sum()
    best, threshold = np.inf, histogram.largest
    for kept in range(LEVELS, BINS + 1, _STEP):
        clipped = counts[:kept].copy()
        clipped[-1] += total - clipped.sum()
        divergence = _divergence(clipped, _quantized(counts[:kept]))
        if divergence < best:
            best, threshold = divergence, min(kept * width, histogram.largest)
    return float(threshold)


def _quantized(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """``counts`` as 128 levels would give them back: even over the bins that are not empty."""
    level = np.arange(len(counts)) * LEVELS // len(counts)
    filled = counts > 0
    sums = np.bincount(level, counts, LEVELS)
    sizes = np.bincount(level, filled, LEVELS)
    spread: NDArray[np.float64] = np.where(filled, (sums / np.maximum(sizes, 1))[level], 0.0)
    return spread


def _divergence(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Kullback-Leibler divergence of ``q`` from ``p``, both not yet normalised; nats."""
    if p.sum() == 0 or q.sum() == 0:
        return float(np.inf)
    # outliers clipped into an empty bin count by their share, not as infinity
    p, q = p / p.sum(), np.maximum(q / q.sum(), _SMALLEST_SHARE)
    there = p > 0
    return float(np.sum(p[there] * np.log(p[there] / q[there])))
