"""The plots of the report; each function gives ``None`` when there is nothing to draw.

Dot plots and bars with the names beside them (Cleveland, "The Elements of Graphing Data", 1985):
no legend has to be looked up, and a backend that was skipped or failed keeps its line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vgg_deploy.report.bench_plots import latency_plot
from vgg_deploy.report.canvas import (
    BAD,
    GOOD,
    GRID,
    INK,
    MUTED,
    WARN,
    Canvas,
    Plot,
    drawing,
    log_axis,
    text_width,
)
from vgg_deploy.report.judged import is_stale, limit_text, relation, shown, title_of, worst_first
from vgg_deploy.report.labels import short_labels
from vgg_deploy.report.learning import learning_plot
from vgg_deploy.report.spread_plot import distribution_plot
from vgg_deploy.report.throughput_plot import throughput_plot
from vgg_deploy.report.tradeoff_plot import accuracy_latency_plot
from vgg_deploy.results import Comparison, Figure, VerifyReport

__all__ = [
    "Plot",
    "accuracy_latency_plot",
    "distribution_plot",
    "error_plot",
    "latency_plot",
    "learning_plot",
    "throughput_plot",
]

_WIDTH, _ROW = 720.0, 30.0


def error_plot(report: VerifyReport, current: Mapping[str, str] | None = None) -> Plot | None:
    """Error of every backend against the float64 reference, log scale, each limit marked."""
    name = _error_name(report)
    values = _positive(report, name)
    if name is None or not values:
        return None
    rows = worst_first(report.rows)
    labels = short_labels(row.subject for row in rows)
    left = 12 + max(text_width(label) for label in labels.values())
    height = 24 + _ROW * len(rows) + 52
    low, high = min(values) / 3, max(values) * 3
    with drawing():
        canvas = Canvas(_WIDTH, height)
        axes = canvas.axes(left, 24, _WIDTH - left - 110, _ROW * len(rows))
        log_axis(axes, "x", low, high)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), [labels[row.subject.id] for row in rows])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_xlabel(f"{title_of(name)}, log scale", color=MUTED, labelpad=8)
        for place, row in enumerate(rows):
            stale = is_stale(row.subject, current)
            _error_row(axes, place, row, row.figure(name), stale, (low, high))
        title, caption = _error_words(name)
        description = _error_description(rows, labels, name, current)
        svg = canvas.svg("error", title, description)
    return Plot(
        name="error",
        title=title,
        caption=f"Dot: {caption}. Upright bar: the limit it was judged by. Further left is better; "
        "a cross is out of its limit.",
        description=description,
        svg=svg,
    )


def _error_words(name: str) -> tuple[str, str]:
    """Title of the drawing of a figure, and what a dot is."""
    titled = title_of(name)
    if name == "batch_spread":
        dot = "how far the outputs of one image are apart in batches of other sizes"
        return f"{titled[0].upper()}{titled[1:]}, per backend", dot
    return f"Error per backend: {titled}", "measured against the float64 reference"


def _error_name(report: VerifyReport) -> str | None:
    """The figure to draw: a judged error, relative L2 before the largest difference."""
    figures = [f for row in report.rows for f in row.figures if f.value != 0 or f.limit]
    upper = [f for f in figures if relation(f) == "≤" and "top" not in f.name]
    names = list(dict.fromkeys(f.name for f in upper if "accuracy" not in f.name))
    ranked = sorted(names, key=lambda n: ("l2" not in n, "max" not in n))
    return ranked[0] if ranked else None


def _positive(report: VerifyReport, name: str | None) -> list[float]:
    figures = [row.figure(name) for row in report.rows] if name else []
    numbers = [n for f in figures if f for n in (f.value, f.limit)]
    return [n for n in numbers if n is not None and n > 0 and math.isfinite(n)]


def _error_row(
    axes: Any,
    place: int,
    row: Comparison,
    figure: Figure | None,
    stale: bool,
    ends: tuple[float, float],
) -> None:
    low, high = ends
    axes.plot(ends, (place, place), color=GRID, linewidth=1, linestyle=(0, (1, 3)))
    beside = {"va": "center", "xytext": (10, 0), "textcoords": "offset points"}
    if figure is None:
        axes.annotate(row.verdict, (high, place), color=MUTED, fontstyle="italic", **beside)
        return
    if figure.limit:
        axes.plot((figure.limit,) * 2, (place - 0.3, place + 0.3), color=INK, linewidth=2)
    color = WARN if stale else GOOD if figure.ok else BAD
    value = high if figure.value is None else max(figure.value, low)
    axes.plot(value, place, "o" if figure.ok else "X", color=color, markersize=9, clip_on=False)
    text = shown(figure.name, figure.value) + (" stale" if stale else "")
    axes.annotate(text, (high, place), color=INK if figure.ok else BAD, **beside)


def _error_description(
    rows: Sequence[Comparison],
    labels: Mapping[str, str],
    name: str,
    current: Mapping[str, str] | None,
) -> str:
    parts = []
    for row in rows:
        figure = row.figure(name)
        said = f"{shown(name, figure.value)} {limit_text(figure)}" if figure else row.verdict
        old = ", stale" if is_stale(row.subject, current) else ""
        parts.append(f"{labels[row.subject.id]}: {said.strip()}{old}")
    return "; ".join(parts) + "."
