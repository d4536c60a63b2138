"""Statistics of raw latencies: pure numpy, computed when they are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

# Fewest queries that support a percentile. 64 for p90 and 662 for p99 are MLPerf Inference's early
# stopping minimums; 10 for p50 and 200 for p95 are round numbers of our own without such a proof.
MIN_QUERIES: Mapping[int, int] = {50: 10, 90: 64, 95: 200, 99: 662}
NS = 1e9  # nanoseconds per second


@dataclass(frozen=True, kw_only=True)
class Stats:
    """Latency of one run in seconds; a percentile the sample cannot support is None."""

    queries: int
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    mean: float
    cv: float  # standard deviation over mean
    spread: float  # half of the interquartile range over the median: outliers do not move it
    images_per_second: float  # batch over mean latency


def summarise(samples_ns: Sequence[int], batch: int) -> Stats:
    """Statistics of at least one latency in nanoseconds; ``ValueError`` for none."""
    if not samples_ns:
        raise ValueError("no samples")
    seconds = np.asarray(samples_ns, dtype=np.float64) / NS
    mean = float(seconds.mean())
    return Stats(
        queries=len(seconds),
        p50=percentile(seconds, 50),
        p90=percentile(seconds, 90),
        p95=percentile(seconds, 95),
        p99=percentile(seconds, 99),
        mean=mean,
        cv=float(seconds.std(ddof=1) / mean) if len(seconds) > 1 and mean > 0 else 0.0,
        spread=robust_spread(seconds),
        images_per_second=batch / mean if mean > 0 else float("inf"),
    )


def percentile(seconds: np.ndarray[tuple[int, ...], np.dtype[np.float64]], p: int) -> float | None:
    """The ``p``-th percentile, or None when there are fewer queries than it needs."""
    if len(seconds) < MIN_QUERIES[p]:
        return None
    return float(np.percentile(seconds, p))


def robust_spread(samples: ArrayLike) -> float:
    """Half of the interquartile range over the median, which outliers do not move; 0 for none."""
    values = np.asarray(samples, np.float64)
    if not values.size:
        return 0.0
    low, middle, high = np.percentile(values, (25, 50, 75))
    return float((high - low) / 2 / middle) if middle > 0 else 0.0
