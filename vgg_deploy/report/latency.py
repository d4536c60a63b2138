"""Statistics of stored latencies in the units they are shown in."""

from __future__ import annotations

from dataclasses import dataclass

from vgg_deploy.bench.figures import images_per_s
from vgg_deploy.bench.stats import summarise
from vgg_deploy.results import Timing


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Milliseconds per run of one batch; a percentile the sample cannot support is ``None``."""

    runs: int
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    cv: float  # standard deviation ÷ mean
    images_per_s: float  # of runs enqueued together, else batch ÷ mean latency


def latency(timing: Timing) -> Latency | None:
    """Statistics of a measured cell; ``None`` when it has no samples."""
    if timing.status != "measured" or not timing.samples_ns:
        return None
    stats = summarise(timing.samples_ns, timing.batch)
    p50, p90, p95, p99 = (
        None if seconds is None else seconds * 1e3
        for seconds in (stats.p50, stats.p90, stats.p95, stats.p99)
    )
    return Latency(
        runs=stats.queries,
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        cv=stats.cv,
        images_per_s=images_per_s(timing),
    )


def median_ms(timing: Timing) -> float | None:
    """Median latency of a cell in milliseconds, where it was measured often enough."""
    found = latency(timing)
    return found.p50 if found else None
