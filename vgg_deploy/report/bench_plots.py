"""Latency per backend and batch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vgg_deploy.report.canvas import (
    BAD,
    GOOD,
    INK,
    MUTED,
    PAPER,
    WARN,
    Canvas,
    Plot,
    drawing,
    log_axis,
    text_width,
    wide,
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
    log = any(wide(filter(None, map(median_ms, rows))) for rows in batches.values())
    with drawing():
        canvas = Canvas(_WIDTH, height)
        top = 0.0
        for batch, rows in batches.items():
            canvas.text(8, top + 18, f"Batch {batch}", color=INK, fontweight="bold")
            axes = canvas.axes(left, top + 30, _WIDTH - left - 96, _ROW * len(rows))
            axes.set_yticks(range(len(rows)), [labels[row.subject.id] for row in rows])
            axes.tick_params(axis="y", labelcolor=INK)
            _latency_panel(axes, rows, current, log=log)
            top += _PANEL + _ROW * len(rows)
        for place, line in enumerate(absent):
            canvas.text(8, top + 12 + 20 * place, line, fontstyle="italic")
        description = _latency_description(batches, labels, current) + " ".join(["", *absent])
        svg = canvas.svg("latency", "Latency per backend and batch", description)
    return Plot(
        name="latency",
        title="Latency per backend and batch",
        caption="Milliseconds for one run of a whole batch. Whisker: up to p90. "
        + ("Dot: median (p50), log scale." if log else "Bar: median (p50), from zero.")
        + " Each batch size has its own scale. "
        + ("Amber diamond" if log else "Amber stripes")
        + ": the table says the reason.",
        description=description,
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


def _latency_panel(
    axes: Any, rows: Sequence[Timing], current: Mapping[str, str] | None, *, log: bool
) -> None:
    found = [latency(row) for row in rows]
    axes.set_ylim(len(rows) - 0.5, -0.5)
    far = max(map(_reach, found), default=0.0) or 1.0
    near = min((s.p50 for s in found if s and s.p50), default=far) / 2
    if log:
        log_axis(axes, "x", near, far * 1.1)
    else:
        axes.set_xlim(0, far * 1.02)
        axes.locator_params(axis="x", nbins=6)
    start = near if log else 0.0
    axes.axvline(start, color=MUTED, linewidth=1)
    for place, (row, stats) in enumerate(zip(rows, found, strict=True)):
        if stats is None or stats.p50 is None:
            said = row.status if stats is None else "too few runs"
            color = BAD if row.status == "failed" else MUTED
            _beside(axes, said, start, place, color=color, fontstyle="italic")
            continue
        stale = is_stale(row.subject, current)
        odd = stale or bool(row.marks)
        color = WARN if odd else GOOD
        if log:
            axes.plot(stats.p50, place, "D" if odd else "o", color=color, markersize=9)
        else:
            hatch = {"hatch": "///", "edgecolor": PAPER} if odd else {}
            axes.barh(place, stats.p50, height=0.5, color=color, linewidth=0, **hatch)
        _whisker(axes, place, stats.p50, stats.p90)
        text = f"{significant(stats.p50)} ms" + (" stale" if stale else "")
        _beside(axes, text, _reach(stats), place, color=INK)


def _reach(stats: Latency | None) -> float:
    """Where a bar and its whisker end."""
    return max(stats.p50 or 0.0, stats.p90 or 0.0) if stats else 0.0


def _whisker(axes: Any, place: int, p50: float, p90: float | None) -> None:
    if p90 is not None:
        axes.plot((p50, p90), (place, place), color=INK, linewidth=1.5)
        axes.plot((p90, p90), (place - 0.16, place + 0.16), color=INK, linewidth=1.5)


def _beside(axes: Any, text: str, x: float, place: int, **style: str) -> None:
    options = {"xytext": (10, 0), "textcoords": "offset points", "va": "center"}
    axes.annotate(text, (x, place), annotation_clip=False, **options, **style)


def _latency_description(
    batches: Batches, labels: Mapping[str, str], current: Mapping[str, str] | None
) -> str:
    parts = []
    for batch, rows in batches.items():
        said = [f"{labels[row.subject.id]} {_in_words(row, current)}" for row in rows]
        parts.append(f"Batch {batch}: {', '.join(said)}")
    return "; ".join(parts) + "."


def _in_words(row: Timing, current: Mapping[str, str] | None) -> str:
    ms = median_ms(row)
    if not ms:
        return row.status
    stale = is_stale(row.subject, current)
    return f"{significant(ms)} ms" + (", stale" if stale else ", see remark" if row.marks else "")
