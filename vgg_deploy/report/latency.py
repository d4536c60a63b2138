"""Statistics of stored latencies, computed when they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vgg_deploy.results import Timing


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds per run of one batch, and images per second at the median."""

    runs: int
    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    cv: float  # standard deviation ÷ mean
    images_per_s: float


def latency(timing: Timing) -> Latency | None:
    """Percentiles of a measured cell; ``None`` when it has no samples."""
    if timing.status != "measured" or not timing.samples_ns:
        return None
    return _summarise(timing.samples_ns, timing.batch)


def _summarise(samples_ns: Sequence[int], batch: int) -> Latency:
    ms = np.asarray(samples_ns, dtype=np.float64) / 1e6
    p50, p90, p95, p99 = (float(v) for v in np.percentile(ms, (50, 90, 95, 99)))
    mean = float(ms.mean())
    return Latency(
        runs=len(ms),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        mean=mean,
        cv=float(ms.std(ddof=1)) / mean if len(ms) > 1 and mean > 0 else 0.0,
        images_per_s=batch * 1e3 / p50 if p50 > 0 else 0.0,
    )
