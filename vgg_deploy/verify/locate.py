"""The first stage of a network that is further from float64 than its precision allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from vgg_deploy.artifact import Precision
from vgg_deploy.backends.base import Array
from vgg_deploy.results import Location, Stage
from vgg_deploy.verify.compare import distances
from vgg_deploy.verify.tolerance import TOLERANCES

LOCATE_IMAGES = 4
# int8 and fp8 have no limit of closeness; this is a stage that has lost the picture.
_LOST = 0.5


def locate(
    run_stage: Callable[[str], Array],
    exact: Mapping[str, Array],
    eager: Mapping[str, Array],
    precision: Precision,
) -> Location:
    """Run stage after stage until one diverges.

    ``exact`` and ``eager`` hold the outputs ``[N, features]`` of float64 and of torch eager at
    the precision, by stage and in order; a stage is judged as the logits are.
    """
    judged: list[Stage] = []
    for name, want in exact.items():
        stage = _judge(name, run_stage(name), want, eager[name], precision)
        judged.append(stage)
        if not stage.ok:
            before = judged[-2].name if len(judged) > 1 else "the input"
            note = f"between {before} and {name}"
            return Location(stage=name, stages=tuple(judged), note=note)
    return Location(
        stage=None, stages=tuple(judged), note="every stage is within its limit on these images"
    )


def _judge(name: str, have: Array, want: Array, eager: Array, precision: Precision) -> Stage:
    tolerance = TOLERANCES[precision]
    limit = _LOST
    if not tolerance.by_accuracy:
        own = float(distances(eager, want).max())
        limit = min(max(tolerance.k * own, tolerance.rel_l2_floor), tolerance.rel_l2_ceiling)
    flat = have.reshape(len(have), -1).astype(np.float64)
    if flat.shape != want.shape or not np.isfinite(flat).all():
        return Stage(name=name, rel_l2=None, limit=limit, ok=False)
    error = float(distances(flat, want).max())
    return Stage(name=name, rel_l2=error, limit=limit, ok=error <= limit)
