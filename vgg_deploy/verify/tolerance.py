"""What counts as equivalent, per precision.

A fixed bound such as 1e-5 asks the wrong question: the error of a right result depends on the
precision and on the network's depth. So a backend's error against the float64 reference is
compared with the error that torch eager makes at the same precision, by a ratio ``k``; below an
absolute floor, relative to the logits, it is rounding and never fails. docs/equivalence.md tells
why; docs/results/tolerance_calibration.json holds the errors that the floors come from.

int8 and fp8 are not judged by closeness, but by what their rounding costs in accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from vgg_deploy.artifact import Precision
from vgg_deploy.errors import RefusedInput
from vgg_deploy.results import Accuracy, Figure, Verdict
from vgg_deploy.verify.compare import Errors


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Limits for one precision; errors are relative to the logits."""

    k: float  # allowed ratio to torch eager's error
    rel_l2_floor: float  # below this an image's relative error is rounding
    max_abs_floor: float  # the same for the largest logit difference, in rms of the logits
    rel_l2_ceiling: float  # above this nothing passes, not even torch eager itself
    top1_drop: float  # points of top-1 accuracy, 0..100
    batch_spread: float  # relative L2 between the outputs of one image in two batches
    by_accuracy: bool = False  # judged by top1_drop alone, whatever the distance
    asked: bool = False  # the top1_drop is what the user asked for


# Floors: three times what torch eager makes at that precision on the worst image, the median over
# the networks of docs/results/tolerance_calibration.json. A ceiling is far above any rounding and
# far below an output that ignores its input.
TOLERANCES: Mapping[Precision, Tolerance] = {
    "fp32": Tolerance(
        k=2,
        rel_l2_floor=4.5e-6,
        max_abs_floor=1.2e-5,
        rel_l2_ceiling=1e-3,
        top1_drop=0.1,
        batch_spread=4.5e-6,
    ),
    "tf32": Tolerance(
        k=2,
        rel_l2_floor=4.5e-3,
        max_abs_floor=1e-2,
        rel_l2_ceiling=2e-2,
        top1_drop=0.2,
        batch_spread=4.5e-3,
    ),
    "fp16": Tolerance(
        k=3,
        rel_l2_floor=4e-3,
        max_abs_floor=1e-2,
        rel_l2_ceiling=2e-2,
        top1_drop=0.2,
        batch_spread=4e-3,
    ),
    "bf16": Tolerance(
        k=3,
        rel_l2_floor=3e-2,
        max_abs_floor=7.5e-2,
        rel_l2_ceiling=1e-1,
        top1_drop=0.5,
        batch_spread=3e-2,
    ),
    "int8": Tolerance(
        k=math.inf,
        rel_l2_floor=math.inf,
        max_abs_floor=math.inf,
        rel_l2_ceiling=math.inf,
        top1_drop=0.5,
        batch_spread=2e-1,
        by_accuracy=True,
    ),
    "fp8": Tolerance(
        k=math.inf,
        rel_l2_floor=math.inf,
        max_abs_floor=math.inf,
        rel_l2_ceiling=math.inf,
        top1_drop=0.5,
        batch_spread=2e-1,
        by_accuracy=True,
    ),
}
# A file that resizes pixels itself may err on images that it scales down by so many times what it
# errs on the median real image. Fourteen networks in int8, ONNX Runtime and OpenVINO: 0.8 to 3.8
# times where the resize is right; without antialias 3.2 to 58, above 5 in thirteen of them
# (docs/results/sizes.json, by scripts/calibrate_sizes.py).
SIZES_RATIO = 5
# Figures that a gate may name: every one that every comparison can have.
FIGURES = (
    "rel_l2",
    "max_abs",
    "unexcused_flips",
    "batch_spread",
    "top1_drop",
    "top1_drop_high",
    "top5_drop",
    "top1",
    "top1_low",
    "top1_high",
    "top1_flips",
    "top5_agreement",
    "eager_ratio",
    "eager_rel_l2",
    "cosine",
    "kl",
)
NEED_EAGER = ("eager_ratio", "eager_rel_l2")  # int8 and fp8 have none: no figure, by design
OF_TOP = ("top5_drop", "top5_agreement")  # of a model with more classes than that
NEED_LABELS = ("top1_drop", "top1_drop_high", "top5_drop", "top1", "top1_low", "top1_high")


def judge(
    found: Errors, eager: Errors, tolerance: Tolerance, *, scale: float, spread: float
) -> tuple[Figure, ...]:
    """Every error beside its limit.

    ``scale`` is the root mean square of the reference's logits, ``spread`` the largest relative
    distance between outputs of the same image in different batches.
    """
    close, flips = _judged, _judged
    if tolerance.by_accuracy:
        close = flips = _reported
    limit = limits(eager, tolerance, scale=scale)
    known = eager.rel_l2 > 0 and not tolerance.by_accuracy  # int8 and fp8 have no eager
    ratio = found.rel_l2 / eager.rel_l2 if known else None
    return (
        close("rel_l2", found.rel_l2, limit["rel_l2"]),
        close("max_abs", found.max_abs, limit["max_abs"]),
        flips("unexcused_flips", found.unexcused_flips, 0),
        _judged("batch_spread", spread, limit["batch_spread"]),
        _told("top1_flips", found.top1_flips),
        _told("top5_agreement", found.top5_agreement),
        _told("eager_rel_l2", eager.rel_l2 if known else None),
        _told("eager_ratio", ratio),
        _told("cosine", found.cosine),
        _told("kl", found.kl),
    )


def limits(eager: Errors, tolerance: Tolerance, *, scale: float) -> dict[str, float]:
    """The limits of closeness beside torch eager's error, by figure."""
    relative = max(tolerance.k * eager.rel_l2, tolerance.rel_l2_floor)
    absolute = max(tolerance.k * eager.max_abs, tolerance.max_abs_floor * scale)
    relative = min(relative, tolerance.rel_l2_ceiling)
    spread = tolerance.batch_spread if tolerance.by_accuracy else relative
    return {"rel_l2": relative, "max_abs": absolute, "batch_spread": spread}


def judge_sizes(found: float, usual: float) -> Figure:
    """The relative error on images that are scaled down, beside that on the median real one."""
    return _judged("sizes_rel_l2", found, SIZES_RATIO * usual)


def judge_accuracy(found: Accuracy, tolerance: Tolerance) -> tuple[Figure, ...]:
    """Accuracy in points, 95 % intervals, and the drop against torch eager beside its limit.

    Where nothing else is judged, the upper end of the drop's interval has to be within the limit,
    too. Where closeness is judged, one image more or less is no finding on a small test set; a
    budget that was asked for holds as it is.
    """
    limit = tolerance.top1_drop
    if not (tolerance.by_accuracy or tolerance.asked):
        limit = max(limit, 100 / found.total)
    low, high = found.interval
    most = _judged if tolerance.by_accuracy else _reported
    return (
        _judged("top1_drop", found.drop, limit),
        most("top1_drop_high", found.drop_interval[1], limit),
        _told("top5_drop", 100 * found.top5_lost / found.total),
        _told("top1", 100 * found.top1),
        _told("top1_low", 100 * low),
        _told("top1_high", 100 * high),
    )


def accuracy_verdict(found: Accuracy, tolerance: Tolerance) -> tuple[Verdict, str]:
    """Whether the drop is within its limit, beyond it, or not told by so few images; and why."""
    drop, high = judge_accuracy(found, tolerance)[:2]
    if not drop.ok:
        return "different", (
            f"top-1 accuracy drops by {drop.value:.2f} points, more than {drop.limit:.2f}"
        )
    if not high.ok:
        return "failed", (
            f"top-1 accuracy drops by {drop.value:.2f} points, at 95 % by up to {high.value:.2f}: "
            f"{found.total:,} images do not show that it is within {drop.limit:.2f}; use a larger "
            "test set, or a larger --max-top1-drop"
        )
    return "equivalent", ""


def require_labels(tolerance: Tolerance, total: int | None, why_not: str) -> None:
    """Refuse a claim about accuracy that the images cannot support.

    Nobody can say from ``n`` images that fewer than ``d`` points are lost, even when none is lost
    on them, unless (1 - d)^n is below 5 %.
    """
    if not tolerance.by_accuracy:
        return
    if total is None:
        raise RefusedInput(
            f"it is judged by accuracy, and that was not compared: {why_not}",
            "verify with labelled images of its classes that it was not trained on, without "
            "--no-accuracy",
        )
    if tolerance.top1_drop == 0:
        raise RefusedInput(
            "it is judged by accuracy, and no number of images can show that nothing at all is "
            "lost, which --max-top1-drop 0 asks for",
            "give a --max-top1-drop above 0",
        )
    if total < (need := images_needed(tolerance.top1_drop)):
        raise RefusedInput(
            f"{total} labelled images cannot show a drop below {tolerance.top1_drop:g} points: "
            f"that takes {need}",
            "use a larger test set, or a larger --max-top1-drop",
        )


def images_needed(drop: float) -> int:
    """Images without a single loss that show, at 95 %, a drop below so many points above 0."""
    return math.ceil(math.log(0.05) / math.log1p(-min(drop, 99.0) / 100))


def as_numbers(tolerance: Tolerance) -> dict[str, float]:
    """The limits as results store them; what is not judged is left out."""
    values = asdict(tolerance)
    left_out = ["by_accuracy", "asked"]
    if not tolerance.by_accuracy:  # there the limit of the spread is that of rel_l2
        left_out.append("batch_spread")
    return {k: float(v) for k, v in values.items() if k not in left_out and math.isfinite(v)}


def _judged(name: str, value: float, limit: float) -> Figure:
    return Figure(name=name, value=value, limit=limit, ok=value <= limit)


def _reported(name: str, value: float, limit: float) -> Figure:
    del limit  # of a figure that is only told
    return _told(name, value)


def _told(name: str, value: float | None) -> Figure:
    return Figure(name=name, value=value, limit=None, ok=True)
