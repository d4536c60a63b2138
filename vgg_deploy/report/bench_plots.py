"""Plots of stored timings: latency, throughput, spread, and accuracy against latency."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vgg_deploy.report.canvas import (
    BAD,
    GOOD,
    GRID,
    INK,
    MARKERS,
    MUTED,
    SERIES,
    WARN,
    Canvas,
    Plot,
    drawing,
    spread,
    text_width,
)
from vgg_deploy.report.judged import is_stale
from vgg_deploy.report.labels import short_labels
from vgg_deploy.report.latency import Latency, latency, median_ms
from vgg_deploy.report.quantities import significant
from vgg_deploy.results import BenchReport, Timing

_WIDTH, _ROW, _PANEL = 720.0, 28.0, 70.0  # pixels; _PANEL: what a panel needs besides its rows
Batches = dict[int, list[Timing]]


def latency_plot(report: BenchReport, current: Mapping[str, str] | None = None) -> Plot | None:
    """p50 as a bar, p90 as a whisker; a panel per batch size, the same order in each."""
    batches = _by_batch(report)
    if not any(map(median_ms, report.rows)):
        return None
    labels = short_labels(row.subject for row in report.rows)
    absent = _absent(report, labels)
    shown = {row.subject.id for rows in batches.values() for row in rows}
    left = 12 + max(text_width(labels[name]) for name in shown)
    height = sum(_PANEL + _ROW * len(rows) for rows in batches.values()) + 20 * len(absent)
    with drawing():
        canvas = Canvas(_WIDTH, height)
        top = 0.0
        for batch, rows in batches.items():
            canvas.text(8, top + 18, f"Batch {batch}", color=INK, fontweight="bold")
            axes = canvas.axes(left, top + 30, _WIDTH - left - 96, _ROW * len(rows))
            axes.set_yticks(range(len(rows)), [labels[row.subject.id] for row in rows])
            axes.tick_params(axis="y", labelcolor=INK)
            _latency_panel(axes, rows, current)
            top += _PANEL + _ROW * len(rows)
        for place, line in enumerate(absent):
            canvas.text(8, top + 12 + 20 * place, line, fontstyle="italic")
        description = _latency_description(batches, labels) + " ".join(["", *absent])
        svg = canvas.svg("latency", "Latency per backend and batch", description)
    return Plot(
        name="latency",
        title="Latency per backend and batch",
        caption="Milliseconds for one run of a whole batch. Bar: median (p50). Whisker: p90. "
        "Each batch size has its own scale, from zero.",
        description=description,
        svg=svg,
    )


def throughput_plot(report: BenchReport) -> Plot | None:
    """Images per second, over the batch size; a line per backend."""
    batches = [batch for batch, rows in _by_batch(report).items() if any(map(median_ms, rows))]
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
    height = max(260.0, 18.0 * len(lines) + 90)
    with drawing():
        canvas = Canvas(_WIDTH, height)
        axes = canvas.axes(56, 20, _WIDTH - 56 - right, height - 76)
        _throughput_lines(axes, lines, height - 76)
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
        caption="Images per second at the mean latency. Higher is better.",
        description=f"{description}.",
        svg=svg,
    )


def _by_batch(report: BenchReport) -> Batches:
    """Rows per batch, each in the order of speed at the smallest batch that has all of them."""
    batches: Batches = {}
    chosen = [row for row in report.rows if row.batch]  # 0: skipped before a batch was chosen
    for row in sorted(chosen, key=_speed_order(report)):
        batches.setdefault(row.batch, []).append(row)
    return batches


def _speed_order(report: BenchReport) -> Callable[[Timing], tuple[int, float, str]]:
    """Sort key: batch, then the speed per image at each backend's smallest batch."""
    first: dict[str, float] = {}
    for row in sorted(report.rows, key=lambda r: r.batch):
        ms = median_ms(row)
        if ms is not None:
            first.setdefault(row.subject.id, ms / row.batch)
    return lambda r: (r.batch, first.get(r.subject.id, math.inf), r.subject.id)


def _absent(report: BenchReport, labels: Mapping[str, str]) -> list[str]:
    """Lines that name what was skipped or failed before a batch was chosen."""
    lines = []
    for status in ("failed", "skipped"):
        names = [labels[r.subject.id] for r in report.rows if not r.batch and r.status == status]
        if names:
            lines += textwrap.wrap(f"{status}: {', '.join(names)}", 100)
    return lines


def _latency_panel(axes: Any, rows: Sequence[Timing], current: Mapping[str, str] | None) -> None:
    found = [latency(row) for row in rows]
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, max(map(_reach, found), default=1.0) * 1.02 or 1.0)
    axes.locator_params(axis="x", nbins=6)
    axes.axvline(0, color=MUTED, linewidth=1)
    for place, (row, stats) in enumerate(zip(rows, found, strict=True)):
        if stats is None or stats.p50 is None:
            said = row.status if stats is None else "too few runs"
            axes.annotate(said, (0, place), xytext=(8, 0), textcoords="offset points",
                          va="center", color=BAD if row.status == "failed" else MUTED,
                          fontstyle="italic")  # fmt: skip
            continue
        _bar(axes, place, stats, stale=is_stale(row.subject, current), marked=bool(row.marks))


def _reach(stats: Latency | None) -> float:
    """Where a bar and its whisker end."""
    return max(stats.p50 or 0.0, stats.p90 or 0.0) if stats else 0.0


def _bar(axes: Any, place: int, stats: Latency, *, stale: bool, marked: bool) -> None:
    color = WARN if stale or marked else GOOD
    axes.barh(place, stats.p50, height=0.5, color=color, linewidth=0)
    if stats.p90 is not None:
        axes.plot((stats.p50, stats.p90), (place, place), color=INK, linewidth=1.5)
        axes.plot((stats.p90,) * 2, (place - 0.16, place + 0.16), color=INK, linewidth=1.5)
    text = f"{significant(stats.p50 or 0.0)} ms" + (" stale" if stale else "")
    axes.annotate(text, (_reach(stats), place), xytext=(8, 0), textcoords="offset points",
                  va="center", color=INK, annotation_clip=False)  # fmt: skip


def _latency_description(batches: Batches, labels: Mapping[str, str]) -> str:
    parts = []
    for batch, rows in batches.items():
        said = [
            f"{labels[row.subject.id]} "
            + (f"{significant(ms)} ms" if (ms := median_ms(row)) else row.status)
            for row in rows
        ]
        parts.append(f"Batch {batch}: {', '.join(said)}")
    return "; ".join(parts) + "."


def _throughput_lines(
    axes: Any, lines: Mapping[str, list[tuple[int, float]]], height: float
) -> None:
    axes.grid(visible=False, axis="x")
    axes.grid(visible=True, axis="y", color=GRID, linewidth=1)
    for index, points in enumerate(lines.values()):
        axes.plot(*zip(*points, strict=True), color=SERIES[index % len(SERIES)], linewidth=2,
                  marker=MARKERS[index % len(MARKERS)], markersize=7)  # fmt: skip
    top = max(y for points in lines.values() for _, y in points) * 1.06
    axes.set_ylim(0, top)
    axes.margins(x=0.03)
    ends = [points[-1] for points in lines.values()]
    heights = spread([y for _, y in ends], top * 17 / height)
    for index, label in enumerate(lines):
        axes.annotate(label, (ends[index][0], heights[index]), xytext=(14, 0),
                      textcoords="offset points", va="center", annotation_clip=False,
                      color=SERIES[index % len(SERIES)])  # fmt: skip
