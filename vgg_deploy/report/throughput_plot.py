"""Throughput by batch size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vgg_deploy.report.canvas import (
    GRID,
    MARKERS,
    MUTED,
    SERIES,
    Canvas,
    Plot,
    drawing,
    log_axis,
    spread,
    text_width,
    wide,
)
from vgg_deploy.report.labels import short_labels
from vgg_deploy.report.latency import latency, median_ms
from vgg_deploy.report.quantities import significant
from vgg_deploy.results import BenchReport

_WIDTH = 720.0


def throughput_plot(report: BenchReport) -> Plot | None:
    """Images per second, over the batch size; a line per backend."""
    batches = sorted({row.batch for row in report.rows if median_ms(row)})
    labels = short_labels(row.subject for row in report.rows)
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in sorted(report.rows, key=lambda r: r.batch):
        found = latency(row)
        if found and found.p50 is not None:
            point = (batches.index(row.batch), found.images_per_s)
            lines.setdefault(labels[row.subject.id], []).append(point)
    if len(batches) < 2:
        return None
    right = 24 + max(text_width(label) for label in lines)
    log = wide(rate for points in lines.values() for _, rate in points)
    height = max(260.0, 18.0 * len(lines) + 90)
    with drawing():
        canvas = Canvas(_WIDTH, height)
        axes = canvas.axes(64, 20, _WIDTH - 64 - right, height - 76)
        _throughput_lines(axes, lines, log=log)
        axes.set_xticks(range(len(batches)), [str(b) for b in batches])
        axes.set_xlabel("batch size", color=MUTED, labelpad=6)
        description = "; ".join(
            f"{label}: " + ", ".join(f"{significant(y)} at batch {batches[x]}" for x, y in points)
            for label, points in lines.items()
        )
        svg = canvas.svg("throughput", "Throughput by batch size", f"{description}.")
    return Plot(
        name="throughput",
        title="Throughput by batch size",
        caption=f"Images per second {_how(report)}. Higher is better."
        + (" Log scale." if log else ""),
        description=f"{description}.",
        svg=svg,
    )


def _how(report: BenchReport) -> str:
    """What the rates are made from: a burst where one was measured, as on a GPU."""
    burst = {row.burst_runs > 0 for row in report.rows if row.status == "measured"}
    if burst == {True}:
        return "of runs enqueued together"
    if True in burst:
        return "of runs enqueued together where that was measured, else at the mean latency"
    return "at the mean latency"


def _throughput_lines(
    axes: Any, lines: Mapping[str, list[tuple[int, float]]], *, log: bool
) -> None:
    axes.grid(visible=False, axis="x")
    axes.grid(visible=True, axis="y", color=GRID, linewidth=1)
    for index, points in enumerate(lines.values()):
        axes.plot(*zip(*points, strict=True), color=SERIES[index % len(SERIES)], linewidth=2,
                  marker=MARKERS[index % len(MARKERS)], markersize=7)  # fmt: skip
    rates = [rate for points in lines.values() for _, rate in points]
    if log:
        log_axis(axes, "y", min(rates) / 1.5, max(rates) * 1.5)
    else:
        axes.set_ylim(0, max(rates) * 1.06)
        axes.yaxis.set_major_formatter(lambda value, _position: f"{value:,.0f}")
    axes.margins(x=0.03)
    ends = [points[-1] for points in lines.values()]
    heights = [float(up) for _, up in axes.transData.transform(ends)]
    for index, (label, placed) in enumerate(zip(lines, spread(heights, 17), strict=True)):
        axes.annotate(label, ends[index], xytext=(14, placed - heights[index]),
                      textcoords="offset points", va="center", annotation_clip=False,
                      color=SERIES[index % len(SERIES)])  # fmt: skip
