"""From the calls of a session to a verdict: gate, compare, judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.artifact import Precision
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
from vgg_deploy.verify.runs import Call, Indices, first_outputs, furthest_outputs
from vgg_deploy.verify.tolerance import TOLERANCES, Tolerance, judge, judge_sizes, limits

Logits = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict with its figures and, unless equivalent, the reason."""

    verdict: Verdict
    reason: str
    figures: tuple[Figure, ...] = ()
    outputs: Logits | None = None  # [N, classes], the furthest; None: they cannot be compared
    worst: int | None = None  # index of the image with the largest error, or the first NaN
    answer: Logits | None = None  # [classes]: what that image got


@dataclass(frozen=True)
class Resized:
    """Of a file that resizes pixels itself: indices of real images and of those of other sizes."""

    real: Indices
    sizes: Indices


@dataclass(frozen=True)
class _Place:
    """The image that a figure is about, and in which call."""

    image: int
    where: str


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


def refuse_all_vacuous(reference: NDArray[np.float64], precisions: Iterable[Precision]) -> None:
    """Refuse where no precision at all could be judged; one that can is no reason to stop."""
    refused = None
    for precision in precisions:
        try:
            refuse_vacuous(reference, TOLERANCES[precision])
        except RefusedInput as error:
            refused = refused or error
        else:
            return
    if refused:
        raise refused


def judge_calls(
    calls: Sequence[Call],
    reference: NDArray[np.float64],
    eager: Errors,
    names: Sequence[str],
    tolerance: Tolerance,
    resized: Resized | None = None,
) -> Judgement:
    """Judge every output of every call against the reference, beside torch eager's errors.

    ``resized`` asks for a judgement of the file's own resize where closeness is not judged.
    """
    for call in calls:
        shape = (call.size, reference.shape[1])
        if problem := broken(call.outputs, shape):
            return _broken(call, problem, shape, names)
    seen = np.unique(np.concatenate([call.indices for call in calls]))
    first = first_outputs(calls, len(reference))
    if problem := constant(first[seen]):
        return Judgement(verdict="different", reason=problem)
    scale = float(np.sqrt(np.mean(reference**2)))
    allowed = None
    if not tolerance.by_accuracy:
        allowed = limits(eager, tolerance, scale=scale)["max_abs"]
    found, worst = _all_errors(calls, reference, allowed)
    spread, twice = _spread(calls, first, typical_norm(reference))
    outputs = furthest_outputs(calls, reference)
    figures = judge(found, eager, tolerance, scale=scale, spread=spread)
    places = {"batch_spread": twice}
    if resized and (more := _of_sizes(outputs, reference, resized)):
        figures += (more[0],)
        places[more[0].name] = more[1]
    bad = [figure for figure in figures if not figure.ok]
    at = places.get(bad[0].name, worst) if bad else worst
    return Judgement(
        verdict="different" if bad else "equivalent",
        reason=f"{_told(bad)} ({at.where}, worst on {names[at.image]})" if bad else "",
        figures=figures,
        outputs=outputs,
        worst=at.image,
        answer=outputs[at.image],
    )


def _broken(call: Call, problem: str, shape: tuple[int, ...], names: Sequence[str]) -> Judgement:
    """Outputs that cannot be compared; with the first image that has NaN or infinity."""
    where = f"batch {call.size}"
    if call.outputs.shape != shape or call.outputs.dtype.kind != "f":
        return Judgement(verdict="different", reason=f"{problem} ({where})")
    at = int((~np.isfinite(call.outputs)).any(axis=1).argmax())
    image = int(call.indices[at])
    return Judgement(
        verdict="different",
        reason=f"{problem} ({where}, first on {names[image]})",
        worst=image,
        answer=call.outputs[at],
    )


def _of_sizes(
    outputs: Logits, reference: NDArray[np.float64], resized: Resized
) -> tuple[Figure, _Place] | None:
    """The error on images that the file scales down itself, beside that on real ones.

    None where the file takes one size only. Real images may all be smaller than the network, so
    a wrong filter shows on the others alone.
    """
    if not np.isfinite(outputs[resized.sizes]).all():
        return None
    typical = typical_norm(reference)
    apart = [
        distances(outputs[part], reference[part], typical=typical)
        for part in (resized.real, resized.sizes)
    ]
    figure = judge_sizes(float(apart[1].max()), float(np.median(apart[0])))
    image = int(resized.sizes[apart[1].argmax()])
    return figure, _Place(image, "the file's own resize")


def _all_errors(
    calls: Sequence[Call], reference: NDArray[np.float64], allowed: float | None
) -> tuple[Errors, _Place]:
    """Errors over all calls, and where the largest is."""
    have = np.concatenate([call.outputs for call in calls])
    indices = np.concatenate([call.indices for call in calls])
    sizes = np.concatenate([np.full(call.size, call.size) for call in calls])
    found = errors(have, reference[indices], typical=typical_norm(reference), allowed=allowed)
    at = found.worst_image
    return found, _Place(int(indices[at]), f"batch {sizes[at]}")


def _spread(calls: Sequence[Call], first: Logits, typical: float) -> tuple[float, _Place]:
    """Largest relative distance between two outputs of one image, and where."""
    largest, where = 0.0, _Place(0, "")
    for call in calls:
        apart = distances(call.outputs, first[call.indices], typical=typical)
        at = int(apart.argmax())
        if apart[at] > largest:
            largest = float(apart[at])
            said = f"the result depends on the call: batch {call.size}"
            where = _Place(int(call.indices[at]), said)
    return largest, where


def _told(figures: Sequence[Figure]) -> str:
    return ", ".join(f"{f.name} {f.value:.3g} above {f.limit:.3g}" for f in figures)
