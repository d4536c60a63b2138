"""How far outputs are from the reference: pure numpy, no judgement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.errors import counted

Floats = NDArray[np.floating]
_TOP = 5


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Distance of ``[N, classes]`` logits from a float64 reference; the worst image counts."""

    max_abs: float  # largest difference of one logit
    rel_l2: float  # norm of the difference over the reference's or, if larger, the usual norm
    cosine: float  # smallest cosine similarity
    kl: float  # largest divergence of the softmax outputs, nats
    top1_flips: int  # images whose first class differs
    unexcused_flips: int  # of these, images whose margin is wider than twice what is allowed
    top5_agreement: float  # mean share of the reference's five classes that are found, 0..1
    worst_image: int  # index with the largest rel_l2


def broken(outputs: Floats, shape: tuple[int, ...]) -> str | None:
    """Why outputs cannot be compared at all: shape, type, NaN, infinity; None if they can."""
    if outputs.shape != shape:
        return f"output of shape {outputs.shape} instead of {shape}"
    if outputs.dtype.kind != "f":
        return f"output of type {outputs.dtype} instead of a floating point type"
    bad = int(np.count_nonzero(~np.isfinite(outputs)))
    if bad:
        images = int(np.count_nonzero(~np.isfinite(outputs).all(axis=1)))
        return f"{bad} of {outputs.size} values are NaN or infinite, in {counted(images, 'image')}"
    return None


def constant(outputs: Floats) -> str | None:
    """What to say of outputs that are the same for every image; None where they are not."""
    same = len(outputs) > 1 and np.ptp(outputs, axis=0).max() == 0
    return "the same output for every image" if same else None


def errors(
    outputs: Floats,
    reference: NDArray[np.float64],
    *,
    typical: float | None = None,
    allowed: float | None = None,
) -> Errors:
    """Compare finite ``[N, classes]`` logits with their reference of the same shape.

    ``typical`` is the rms norm of an image's logits, where these are a part of more. ``allowed``
    is by how much a logit may be off where a flip is excused; None: the median over the images.
    An image's own error would excuse every flip, because none happens within half the margin.
    """
    have, want = outputs.astype(np.float64), reference
    relative = distances(have, want, typical=typical)
    per_image = np.abs(have - want).max(axis=1)
    flipped = have.argmax(axis=1) != want.argmax(axis=1)
    excused = margins(want) <= 2 * (np.median(per_image) if allowed is None else allowed)
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


def distances(have: Floats, want: Floats, *, typical: float | None = None) -> NDArray[np.float64]:
    """Relative L2 distance of each image's ``[N, features]``.

    An image whose features are all near zero is measured by the scale of the others.
    """
    norms = np.linalg.norm(want, axis=1)
    scale = np.maximum(norms, typical_norm(want) if typical is None else typical)
    apart: NDArray[np.float64] = np.linalg.norm(have - want, axis=1)
    relative: NDArray[np.float64] = apart / np.where(scale > 0, scale, 1)
    return relative


def typical_norm(values: Floats) -> float:
    """Root mean square of the images' norms."""
    return float(np.sqrt(np.mean(np.linalg.norm(values, axis=1) ** 2)))


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
