"""How steady the latencies are: every backend against its own median."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vgg_deploy.bench.stats import MIN_QUERIES
from vgg_deploy.report.canvas import (
    GOOD,
    INK,
    MUTED,
    Canvas,
    Plot,
    drawing,
    text_width,
)
from vgg_deploy.report.labels import short_labels
from vgg_deploy.report.quantities import times
from vgg_deploy.results import BenchReport, Timing

_WIDTH, _ROW = 720.0, 28.0  # pixels
_RATIOS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1, 1.02, 1.05, 1.1, 1.2, 1.5, 2, 3, 5, 10, 20, 50, 100)
_TAILS = (99, 95, 90)  # the highest one that the sample supports is shown


def distribution_plot(report: BenchReport) -> Plot | None:
    """How steady each backend is: quantiles of its latency over its own median."""
    enough = [row for row in report.rows if _tail(row)]
    if not enough:
        return None
    batch = min(row.batch for row in enough)
    rows = [row for row in enough if row.batch == batch]
    labels = short_labels(row.subject for row in report.rows)
    quantiles = [_relative_quantiles(row) for row in rows]
    order = sorted(range(len(rows)), key=lambda i: quantiles[i][-1])
    low = min(0.97, *(float(q[0]) for q in quantiles))
    high = max(1.03, *(float(q[-1]) for q in quantiles))
    left = 12 + max(text_width(labels[row.subject.id]) for row in rows)
    with drawing():
        canvas = Canvas(_WIDTH, 16 + _ROW * len(rows) + 60)
        axes = canvas.axes(left, 16, _WIDTH - left - 96, _ROW * len(rows))
        axes.set_xscale("log")
        axes.set_xlim(low / 1.01, high * 1.01)
        _ratio_ticks(axes, low, high)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), [labels[rows[i].subject.id] for i in order])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_xlabel("latency ÷ its own median", color=MUTED, labelpad=6)
        tails = [f"p{_tail(rows[i])} {times(quantiles[i][-1])}" for i in order]
        for place, index in enumerate(order):
            _strip(axes, place, quantiles[index], high * 1.01, tails[place])
        names = [labels[rows[i].subject.id] for i in order]
        said = "; ".join(f"{n}: {tail}" for n, tail in zip(names, tails, strict=True)) + "."
        svg = canvas.svg("spread", "How steady the latency is", said)
    return Plot(
        name="spread",
        title="How steady the latency is",
        caption=f"Batch {batch}: fifty quantiles per backend, divided by its median, up to the "
        "highest percentile that the number of runs supports (on the right). Close to 1× is "
        "steady.",
        description=said,
        svg=svg,
    )


def _tail(row: Timing) -> int:
    """The highest percentile that the sample supports; 0 without one."""
    queries = len(row.samples_ns) if row.status == "measured" else 0
    return next((p for p in _TAILS if queries >= MIN_QUERIES[p]), 0)


def _relative_quantiles(row: Timing) -> Any:
    """Fifty quantiles, from p1 to the highest one that is supported, over the median."""
    samples = np.asarray(row.samples_ns, dtype=np.float64)
    median = max(float(np.median(samples)), 1.0)
    return np.percentile(samples, np.linspace(1, _tail(row), 50)) / median


def _ratio_ticks(axes: Any, low: float, high: float) -> None:
    inside = [r for r in _RATIOS if low / 1.01 <= r <= high * 1.01]
    least = math.log(high / low) / 8  # at most about eight labels
    kept = [1.0]
    for ratio in sorted(inside, key=lambda r: abs(math.log(r))):
        if all(abs(math.log(ratio / other)) >= least for other in kept):
            kept.append(ratio)
    axes.set_xticks(sorted(kept), [f"{r:g}×" for r in sorted(kept)])
    axes.set_xticks([], minor=True)


def _strip(axes: Any, place: int, quantiles: Any, right: float, tail: str) -> None:
    axes.plot(quantiles, [place] * len(quantiles), "o", color=GOOD, markersize=7, alpha=0.28,
              markeredgewidth=0)  # fmt: skip
    axes.plot((1, 1), (place - 0.28, place + 0.28), color=INK, linewidth=2)
    axes.annotate(tail, (right, place), xytext=(10, 0),
                  textcoords="offset points", va="center", color=INK)  # fmt: skip
