"""From the calls of a session to a verdict: gate, compare, judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.errors import RefusedInput
from vgg_deploy.results import Figure, Verdict
from vgg_deploy.verify.compare import (
    Errors,
    broken,
    constant,
    distances,
    errors,
    typical_norm,
)
from vgg_deploy.verify.runs import Call, first_outputs
from vgg_deploy.verify.tolerance import TOLERANCES, Tolerance, judge

Logits = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict with its figures and, unless equivalent, the reason."""

    verdict: Verdict
    reason: str
    figures: tuple[Figure, ...] = ()
    outputs: Logits | None = None  # [N, classes]; None where they cannot be compared
    worst: int | None = None  # index of the image with the largest error


def refuse_vacuous(reference: NDArray[np.float64], tolerance: Tolerance) -> None:
    """Refuse to judge where even a backend that ignores its input would pass.

    Such a backend is played by the median of the reference over all images. It must be found out
    on most images, not only on the oddest one.
    """
    if problem := broken(reference, reference.shape) or constant(reference):
        raise RefusedInput(
            f"the reference itself is no yardstick: {problem}", "check the checkpoint's weights"
        )
    ceiling = tolerance.rel_l2_ceiling
    if tolerance.by_accuracy:
        ceiling = TOLERANCES["bf16"].rel_l2_ceiling  # accuracy has a check of its own
    blind = distances(np.broadcast_to(np.median(reference, axis=0), reference.shape), reference)
    spread = float(np.median(blind))
    if spread <= ceiling:
        raise RefusedInput(
            "the reference itself is no yardstick: its logits hardly depend on the image (relative "
            f"spread {spread:.1e}), so an output that ignores the image would pass",
            "check the checkpoint's weights: the network may have learned nothing",
        )


def judge_calls(
    calls: Sequence[Call],
    reference: NDArray[np.float64],
    eager: Errors,
    names: Sequence[str],
    tolerance: Tolerance,
) -> Judgement:
    """Judge every output of every call against the reference, beside torch eager's errors."""
    for call in calls:
        shape = (call.size, reference.shape[1])
        if problem := broken(call.outputs, shape):
            return Judgement(verdict="different", reason=f"{problem} (batch {call.size})")
    seen = np.unique(np.concatenate([call.indices for call in calls]))
    outputs = first_outputs(calls, len(reference))
    if problem := constant(outputs[seen]):
        return Judgement(verdict="different", reason=problem)
    found, where, worst = _all_errors(calls, reference)
    spread, twice = _spread(calls, outputs, typical_norm(reference))
    scale = float(np.sqrt(np.mean(reference**2)))
    figures = judge(found, eager, tolerance, scale=scale, spread=spread)
    bad = [figure for figure in figures if not figure.ok]
    reason = ""
    if bad:
        image = names[twice[0]] if bad[0].name == "batch_spread" else names[worst]
        where = twice[1] if bad[0].name == "batch_spread" else where
        reason = f"{_told(bad)} ({where}, worst on {image})"
    verdict: Verdict = "different" if bad else "equivalent"
    return Judgement(verdict=verdict, reason=reason, figures=figures, outputs=outputs, worst=worst)


def _all_errors(calls: Sequence[Call], reference: NDArray[np.float64]) -> tuple[Errors, str, int]:
    """Errors over all calls, the batch size of the worst image, and its index."""
    have = np.concatenate([call.outputs for call in calls])
    indices = np.concatenate([call.indices for call in calls])
    sizes = np.concatenate([np.full(call.size, call.size) for call in calls])
    found = errors(have, reference[indices], typical=typical_norm(reference))
    at = found.worst_image
    return found, f"batch {sizes[at]}", int(indices[at])


def _spread(calls: Sequence[Call], first: Logits, typical: float) -> tuple[float, tuple[int, str]]:
    """Largest relative distance between two outputs of one image, which image, and where."""
    largest, where = 0.0, (0, "")
    for call in calls:
        apart = distances(call.outputs, first[call.indices], typical=typical)
        at = int(apart.argmax())
        if apart[at] > largest:
            largest = float(apart[at])
            where = (int(call.indices[at]), f"the result depends on the call: batch {call.size}")
    return largest, where


def _told(figures: Sequence[Figure]) -> str:
    return ", ".join(f"{f.name} {f.value:.3g} above {f.limit:.3g}" for f in figures)
