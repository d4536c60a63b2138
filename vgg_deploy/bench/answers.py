"""Whether a timed run answers as a plain call does: nothing is faster than a wrong buffer.

verify judges calls; bench times runs on buffers that are placed once, from a CUDA graph where there
is one. What such runs left is compared with a call on the same input in the same session.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vgg_deploy.artifact import Precision
from vgg_deploy.backends.base import Array
from vgg_deploy.errors import MeasurementNotValid

# Relative L2 of an image's answer: verify's limit that nothing passes, not even torch eager, and
# for what is judged by accuracy the one between batches. Far above another kernel's rounding, far
# below the answer to another input.
APART: Mapping[Precision, float] = {
    "fp32": 1e-3,
    "tf32": 2e-2,
    "fp16": 2e-2,
    "bf16": 1e-1,
    "int8": 2e-1,
    "fp8": 2e-1,
}
_PLAIN: Mapping[str, str] = {}
UNREAD = "not checked: this backend does not give back what a timed run answered"


def apart(timed: Array, called: Array) -> float:
    """Largest relative L2 distance of an image, ``[N, classes]`` each.

    Infinite for other shapes, and for values that are not finite on either side.
    """
    if timed.shape != called.shape or not (np.isfinite(timed).all() and np.isfinite(called).all()):
        return float("inf")
    one, other = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (timed, called))
    distance = np.linalg.norm(one - other, axis=1)
    norm = np.linalg.norm(other, axis=1)
    known = np.divide(distance, norm, out=np.full_like(distance, np.inf), where=norm > 0)
    return float(np.where(distance == 0, 0.0, known).max(initial=0.0))


def require_same_answer(
    distance: float, precision: Precision, what: str = "", modes: Mapping[str, str] = _PLAIN
) -> None:
    """Raise ``MeasurementNotValid`` where a timed run is too far from a call; ``what`` comes first.

    ``modes`` are how the session ran. A network that is not finite on bench's noise is refused,
    too: nothing shows what was timed.
    """
    if distance <= (limit := APART[precision]):
        return
    way = "bench --no-cuda-graph, or " if modes.get("cuda_graph") == "on" else ""
    found = f"relative L2 {distance:.2g}" if np.isfinite(distance) else "another shape, or NaN"
    raise MeasurementNotValid(
        f"{what}the timed run answers otherwise than a call does: {found}, limit {limit:g}",
        f"do not use its timings; try {way}another backend",
    )
