"""Accuracy against latency."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from vgg_deploy.report.canvas import (
    BAD,
    GOOD,
    GRID,
    INK,
    MUTED,
    Canvas,
    Plot,
    drawing,
    log_axis,
    text_width,
    wide,
)
from vgg_deploy.report.labels import short_labels
from vgg_deploy.report.latency import median_ms
from vgg_deploy.report.quantities import percent, significant, size
from vgg_deploy.results import BenchReport, Comparison, VerifyReport

_WIDTH = 720.0
Box = tuple[float, float, float, float]


def accuracy_latency_plot(verify: VerifyReport, bench: BenchReport) -> Plot | None:
    """Accuracy over p50 at the smallest batch, for what has both on the same file."""
    times = [(row, ms) for row in bench.rows if (ms := median_ms(row))]
    if not times:
        return None
    batch = min(row.batch for row, _ in times)
    speed = {row.subject: ms for row, ms in times if row.batch == batch}
    both = [(r, speed[r.subject]) for r in verify.rows if r.subject in speed and r.accuracy]
    if len(both) < 2:
        return None
    labels = short_labels(row.subject for row, _ in both)
    sizes = {row.subject.size_bytes for row, _ in both}
    points = [
        (
            ms,
            _top1(row),
            labels[row.subject.id]
            + (f", {size(row.subject.size_bytes)}" if len(sizes) > 1 else ""),
            row,
        )
        for row, ms in both
    ]
    with drawing():
        height = min(300, 140 + 60 * len({y for _, y, _, _ in points}))
        canvas = Canvas(_WIDTH, height + 76)
        axes = canvas.axes(64, 20, _WIDTH - 64 - 60, height)
        _scatter(axes, points)
        axes.set_xlabel(f"p50 at batch {batch}, milliseconds", color=MUTED, labelpad=6)
        description = "; ".join(
            f"{n}: {percent(y, 2)} at {significant(x)} ms" for x, y, n, _ in points
        )
        svg = canvas.svg("tradeoff", "Accuracy against latency", f"{description}.")
    return Plot(
        name="tradeoff",
        title="Accuracy against latency",
        caption="Top-1 accuracy in percent. Further up and further left is better. Line: the "
        "Pareto set, where nothing equivalent is both faster and at least as accurate; a cross "
        "was not found equivalent.",
        description=f"{description}.",
        svg=svg,
    )


def _top1(row: Comparison) -> float:
    return row.accuracy.top1 if row.accuracy and row.accuracy.total else 0.0


def _scatter(axes: Any, points: Sequence[tuple[float, float, str, Comparison]]) -> None:
    axes.grid(visible=True, axis="y", color=GRID, linewidth=1)
    shares = [y for _, y, _, _ in points]
    room = max(0.005, (max(shares) - min(shares)) * 0.25)
    axes.set_ylim((min(shares) - room) * 100, min(100.5, (max(shares) + room) * 100))
    speeds = [x for x, _, _, _ in points]
    axes.locator_params(axis="y", nbins=6)
    if wide(speeds):
        log_axis(axes, "x", min(speeds) / 2, max(speeds) * 2)
    else:
        axes.set_xlim(0, max(speeds) * 1.05)
        axes.locator_params(axis="x", nbins=6)
    front = _front(points)
    axes.plot(
        [x for x, _ in front], [y * 100 for _, y in front], color=MUTED, linewidth=1.5,
        drawstyle="steps-post", zorder=1,
    )  # fmt: skip
    left, right = axes.transData.transform([(x, shares[0]) for x in axes.get_xlim()])[:, 0]
    centres = axes.transData.transform([(x, y * 100) for x, y, _, _ in points])
    taken = [_box(across, up, 9, 9) for across, up in centres]
    taken += _stairs(axes.transData.transform([(x, y * 100) for x, y in front] or [(0, 0)]))
    for x, y, label, row in sorted(points, key=lambda p: p[:3]):
        good = row.verdict == "equivalent"
        axes.plot(x, y * 100, "o" if good else "X", color=GOOD if good else BAD, markersize=9)
        across, up = axes.transData.transform((x, y * 100))
        half = text_width(label) / 2
        shift, box = _free_place(across, up, half, taken, (left, right + 56))
        taken.append(box)
        axes.annotate(label, (x, y * 100), xytext=shift, textcoords="offset points",
                      ha="center", va="center", color=INK, annotation_clip=False)  # fmt: skip


def _front(points: Sequence[tuple[float, float, str, Comparison]]) -> list[tuple[float, float]]:
    """Latency and accuracy of what no equivalent point beats in both, fastest first."""
    front: list[tuple[float, float]] = []
    for x, y, _, row in sorted(points, key=lambda p: (p[0], -p[1])):
        if row.verdict == "equivalent" and (not front or y > front[-1][1]):
            front.append((x, y))
    return front


def _stairs(corners: Sequence[Sequence[float]]) -> list[Box]:
    """The line through the Pareto set, from corner to corner: first across, then up."""
    drawn: list[Box] = []
    for (left, low), (right, high) in pairwise(corners):
        drawn += [(left, low - 1, right, low + 1), (right - 1, low, right + 1, high)]
    return drawn


def _box(x: float, y: float, across: float, up: float) -> Box:
    """A rectangle around a centre: left, bottom, right, top in pixels."""
    return (x - across, y - up, x + across, y + up)


def _free_place(
    x: float, y: float, half: float, taken: Sequence[Box], ends: tuple[float, float]
) -> tuple[tuple[float, float], Box]:
    """Offset of a label's centre from its point where it meets no point, line or other label."""
    beside = [(half + 12, 0.0), (-half - 12, 0.0)]
    above = [(0.0, sign * 17.0 * step) for step in range(1, 9) for sign in (1, -1)]
    for shift in (*beside, *above):
        box = _box(x + shift[0], y + shift[1], half, 8)
        inside = ends[0] <= box[0] and box[2] <= ends[1]
        if inside and not any(_overlap(box, other) for other in taken):
            return shift, box
    return above[-1], _box(x, y + above[-1][1], half, 8)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
