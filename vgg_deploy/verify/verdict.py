"""From a session to a verdict: run it at every batch size, gate, compare, judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.backends.base import Session
from vgg_deploy.errors import RefusedInput
from vgg_deploy.results import Figure, Verdict
from vgg_deploy.verify.compare import broken, errors
from vgg_deploy.verify.inputs import Inputs
from vgg_deploy.verify.tolerance import Tolerance, judge, worst

Outputs = Mapping[int, NDArray[np.floating]]  # batch size to logits [N, classes]
MIN_IMAGES = 8  # fewer prove nothing


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A verdict with its figures and, unless equivalent, the reason."""

    verdict: Verdict
    reason: str
    figures: tuple[Figure, ...]


def run_batches(session: Session, inputs: Inputs, batches: Sequence[int]) -> Outputs:
    """Logits of all inputs, cut into batches of each size; the last one may be shorter."""
    outputs = {}
    for size in batches:
        starts = range(0, len(inputs.batch), size)
        parts = [session(inputs.batch[start : start + size]) for start in starts]
        outputs[size] = np.concatenate(parts)
    return outputs


def refuse_vacuous(inputs: Inputs, reference: NDArray[np.float64], tolerance: Tolerance) -> None:
    """Refuse to judge where even a backend that ignores its input would pass.

    Such a backend is played by the mean of the reference over all images.
    """
    if len(inputs.batch) < MIN_IMAGES:
        raise RefusedInput(
            f"{len(inputs.batch)} images are too few for a verdict",
            f"verify with at least {MIN_IMAGES} images",
        )
    if problem := broken(reference, reference.shape):
        raise RefusedInput(
            f"the reference itself is no yardstick: {problem}", "check the checkpoint's weights"
        )
    blind = errors(np.broadcast_to(reference.mean(axis=0), reference.shape), reference)
    if blind.rel_l2 <= tolerance.rel_l2_ceiling:
        raise RefusedInput(
            "the reference itself is no yardstick: its logits hardly depend on the image (relative "
            f"spread {blind.rel_l2:.1e}), so an output that ignores the image would pass",
            "check the checkpoint's weights: the network may have learned nothing",
        )


def judge_outputs(
    outputs: Outputs,
    eager: Outputs,
    reference: NDArray[np.float64],
    inputs: Inputs,
    tolerance: Tolerance,
) -> Judgement:
    """Judge logits at each batch size against the reference, beside torch eager's at that size."""
    scale = float(np.sqrt(np.mean(reference**2)))
    groups = []
    for size, logits in outputs.items():
        if problem := broken(logits, reference.shape):
            return Judgement(verdict="different", reason=f"{problem} (batch {size})", figures=())
        found = errors(logits, reference)
        figures = judge(found, errors(eager[size], reference), tolerance, scale=scale)
        groups.append(figures)
        if bad := [figure for figure in figures if not figure.ok]:
            where = f"batch {size}, worst on {inputs.names[found.worst_image]}"
            return Judgement(verdict="different", reason=f"{_told(bad)} ({where})", figures=figures)
    return Judgement(verdict="equivalent", reason="", figures=worst(tuple(groups)))


def _told(figures: Sequence[Figure]) -> str:
    return ", ".join(f"{f.name} {f.value:.3g} above {f.limit:.3g}" for f in figures)
