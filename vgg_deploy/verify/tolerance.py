"""What counts as equivalent, per precision.

A fixed bound such as 1e-5 asks the wrong question: the error of a right result depends on the
network's depth and scale. So a backend's error against the float64 reference is compared with
the error that torch eager makes at the same precision, by a ratio ``k``; below an absolute floor,
relative to the logits, it is rounding and never fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vgg_deploy.artifact import Precision
from vgg_deploy.results import Figure
from vgg_deploy.verify.compare import Errors


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Limits for one precision."""

    k: float  # allowed ratio to torch eager's error
    rel_l2_floor: float  # below this a relative error is rounding
    max_abs_floor: float  # the same for the largest logit difference, relative to the logits' scale
    rel_l2_ceiling: float  # above this nothing passes, not even torch eager itself
    accuracy_drop: float  # points of top-1 accuracy, 0..100


# First values for fp32, from the errors of the CPU backends (docs/LOG.md); half precisions follow
# with the artifacts that have them.
TOLERANCES: Mapping[Precision, Tolerance] = {
    "fp32": Tolerance(
        k=2, rel_l2_floor=5e-6, max_abs_floor=2e-5, rel_l2_ceiling=1e-3, accuracy_drop=0.1
    ),
    # Not yet calibrated: a few units of the type's rounding, summed over the layers.
    "fp16": Tolerance(
        k=3, rel_l2_floor=5e-3, max_abs_floor=2e-2, rel_l2_ceiling=5e-3, accuracy_drop=0.2
    ),
    "bf16": Tolerance(
        k=3, rel_l2_floor=4e-2, max_abs_floor=1.6e-1, rel_l2_ceiling=4e-2, accuracy_drop=0.5
    ),
    # Judged by the accuracy budget; closeness only catches what is broken.
    "int8": Tolerance(
        k=3, rel_l2_floor=0.5, max_abs_floor=2, rel_l2_ceiling=0.5, accuracy_drop=0.5
    ),
    "fp8": Tolerance(k=3, rel_l2_floor=0.5, max_abs_floor=2, rel_l2_ceiling=0.5, accuracy_drop=0.5),
}


def judge(
    found: Errors, eager: Errors, tolerance: Tolerance, *, scale: float
) -> tuple[Figure, ...]:
    """Every error beside its limit.

    ``scale`` is the root mean square of the reference's logits.
    """
    rel_limit = max(tolerance.k * eager.rel_l2, tolerance.rel_l2_floor)
    rel_limit = min(rel_limit, tolerance.rel_l2_ceiling)
    abs_limit = max(tolerance.k * eager.max_abs, tolerance.max_abs_floor * scale)
    ratio = found.rel_l2 / eager.rel_l2 if eager.rel_l2 > 0 else None
    return (
        _judged("rel_l2", found.rel_l2, rel_limit),
        _judged("max_abs", found.max_abs, abs_limit),
        _judged("unexcused_flips", found.unexcused_flips, 0),
        _told("top1_flips", found.top1_flips),
        _told("top5_agreement", found.top5_agreement),
        _told("eager_ratio", ratio),
        _told("cosine", found.cosine),
        _told("kl", found.kl),
    )


def judge_accuracy(drop: float, tolerance: Tolerance) -> Figure:
    """Drop of top-1 accuracy in points against torch eager; a gain is a negative drop."""
    return _judged("top1_drop", drop, tolerance.accuracy_drop)


def worst(figures: tuple[tuple[Figure, ...], ...]) -> tuple[Figure, ...]:
    """One figure per name over several batch sizes: the one nearest to, or beyond, its limit."""
    by_name: dict[str, list[Figure]] = {}
    for group in figures:
        for figure in group:
            by_name.setdefault(figure.name, []).append(figure)
    return tuple(max(same, key=_badness) for same in by_name.values())


def _badness(figure: Figure) -> tuple[bool, float]:
    value = figure.value if figure.value is not None else float("inf")
    small_is_bad = figure.name in ("cosine", "top5_agreement")
    if figure.limit:
        return (not figure.ok, value / figure.limit)
    return (not figure.ok, -value if small_is_bad else value)


def _judged(name: str, value: float, limit: float) -> Figure:
    return Figure(name=name, value=value, limit=limit, ok=value <= limit)


def _told(name: str, value: float | None) -> Figure:
    return Figure(name=name, value=value, limit=None, ok=True)
