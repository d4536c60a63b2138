"""How far outputs are from the reference: pure numpy, no judgement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
_TOP = 5


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Distance of ``[N, classes]`` logits from a float64 reference; the worst image counts."""

    max_abs: float  # largest difference of one logit
    rel_l2: float  # norm of the difference over the norm of the reference
    cosine: float  # smallest cosine similarity
    kl: float  # largest divergence of the softmax outputs, nats
    top1_flips: int  # images whose first class differs
    unexcused_flips: int  # of these, images whose margin is wider than twice the error
    top5_agreement: float  # mean share of the reference's five classes that are found, 0..1
    worst_image: int  # index with the largest rel_l2


def broken(outputs: Floats, shape: tuple[int, ...]) -> str | None:
    """Why outputs cannot be compared at all: shape, NaN, infinity, a constant; None if they can."""
    if outputs.shape != shape:
        return f"output of shape {outputs.shape} instead of {shape}"
    bad = int(np.count_nonzero(~np.isfinite(outputs)))
    if bad:
        images = int(np.count_nonzero(~np.isfinite(outputs).all(axis=1)))
        return f"{bad} of {outputs.size} values are NaN or infinite, in {images} images"
    if np.ptp(outputs, axis=0).max() == 0 and len(outputs) > 1:
        return "the same output for every image"
    return None


def errors(outputs: Floats, reference: NDArray[np.float64]) -> Errors:
    """Compare finite ``[N, classes]`` logits with their reference of the same shape."""
    have, want = outputs.astype(np.float64), reference
    difference = have - want
    norms = np.linalg.norm(want, axis=1)
    # an image whose logits are all near zero is measured by the scale of the others
    scale = np.maximum(norms, np.sqrt(np.mean(norms**2)))
    relative = np.linalg.norm(difference, axis=1) / np.where(scale > 0, scale, 1)
    per_image = np.abs(difference).max(axis=1)
    flipped = have.argmax(axis=1) != want.argmax(axis=1)
    excused = margins(want) < 2 * per_image
    return Errors(
        max_abs=float(per_image.max()),
        rel_l2=float(relative.max()),
        cosine=float(_cosine(have, want).min()),
        kl=float(_divergence(have, want).max()),
        top1_flips=int(flipped.sum()),
        unexcused_flips=int((flipped & ~excused).sum()),
        top5_agreement=_top_agreement(have, want),
        worst_image=int(relative.argmax()),
    )


def margins(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of the first class to the second, per image."""
    ordered = np.sort(logits, axis=1)
    margin: NDArray[np.float64] = ordered[:, -1] - ordered[:, -2]
    return margin


def softmax(logits: Floats) -> NDArray[np.float64]:
    """Probabilities in float64 from ``[N, classes]`` logits."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _cosine(have: Floats, want: Floats) -> Floats:
    lengths = np.linalg.norm(have, axis=1) * np.linalg.norm(want, axis=1)
    cosine: Floats = (have * want).sum(axis=1) / np.where(lengths > 0, lengths, 1)
    return cosine


def _divergence(have: Floats, want: Floats) -> Floats:
    """Kullback-Leibler divergence of the candidate's softmax from the reference's."""
    log_want = want - _log_sum(want)
    log_have = have - _log_sum(have)
    divergence: Floats = (np.exp(log_want) * (log_want - log_have)).sum(axis=1)
    return np.maximum(divergence, 0)  # rounding can make it a hair negative


def _log_sum(logits: Floats) -> Floats:
    top = logits.max(axis=1, keepdims=True)
    total: Floats = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return total


def _top_agreement(have: Floats, want: Floats) -> float:
    count = min(_TOP, want.shape[1])
    top_have = np.argpartition(-have, count - 1, axis=1)[:, :count]
    top_want = np.argpartition(-want, count - 1, axis=1)[:, :count]
    shared = (top_have[:, :, None] == top_want[:, None, :]).any(axis=1).sum(axis=1)
    return float(shared.mean() / count)
