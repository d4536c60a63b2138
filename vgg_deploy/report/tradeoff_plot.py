"""Accuracy against latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
    wide,
)
from vgg_deploy.report.labels import short_labels
from vgg_deploy.report.latency import median_ms
from vgg_deploy.report.pareto import dominates
from vgg_deploy.report.quantities import percent, significant, size
from vgg_deploy.results import BenchReport, Comparison, Timing, VerifyReport

_WIDTH = 720.0
Box = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One file in one backend with what it costs."""

    ms: float  # p50
    top1: float  # 0..1
    label: str
    size_bytes: int
    equivalent: bool
    marks: tuple[str, ...]  # rules that its timing breaks

    @property
    def cost(self) -> tuple[float, float, int]:
        """As ``choose`` weighs it by the median: less is better in each."""
        return self.ms, -self.top1, self.size_bytes

    @property
    def fits(self) -> bool:
        """Whether ``choose`` would take it into account."""
        return self.equivalent and not self.marks


def accuracy_latency_plot(verify: VerifyReport, bench: BenchReport) -> Plot | None:
    """Accuracy over p50 at the smallest batch, for what has both on the same file."""
    times = [(row, ms) for row in bench.rows if (ms := median_ms(row))]
    if not times:
        return None
    batch = min(row.batch for row, _ in times)
    speed = {row.subject: (row, ms) for row, ms in times if row.batch == batch}
    both = [(r, *speed[r.subject]) for r in verify.rows if r.subject in speed and r.accuracy]
    if len(both) < 2:
        return None
    points = _points(both)
    best = pareto_set(points)
    description = "; ".join(_said(point, point in best) for point in points) + "."
    with drawing():
        height = min(300, 140 + 60 * len({point.top1 for point in points}))
        canvas = Canvas(_WIDTH, height + 76)
        axes = canvas.axes(64, 20, _WIDTH - 64 - 60, height)
        _scatter(axes, points, best)
        axes.set_xlabel(f"p50 at batch {batch}, milliseconds", color=MUTED, labelpad=6)
        svg = canvas.svg("tradeoff", "Accuracy against latency", description)
    return Plot(
        name="tradeoff",
        title="Accuracy against latency",
        caption="Top-1 accuracy in percent. Further up and further left is better. Ring: the "
        f"Pareto set of choose --percentile 50 --batch {batch}: nothing that fits is better in "
        "latency, accuracy or size without being worse in another. Open diamond: equivalent, but "
        "its timing is not settled. Cross: not found equivalent.",
        description=description,
        svg=svg,
    )


def pareto_set(points: Sequence[Point]) -> list[Point]:
    """What fits and is dominated by nothing that fits."""
    fitting = [point for point in points if point.fits]
    return [p for p in fitting if not any(dominates(o.cost, p.cost) for o in fitting)]


def _points(both: Sequence[tuple[Comparison, Timing, float]]) -> list[Point]:
    labels = short_labels(row.subject for row, _, _ in both)
    sizes = {row.subject.size_bytes for row, _, _ in both}
    return [
        Point(
            ms=ms,
            top1=row.accuracy.top1 if row.accuracy and row.accuracy.total else 0.0,
            label=labels[row.subject.id]
            + (f", {size(row.subject.size_bytes)}" if len(sizes) > 1 else ""),
            size_bytes=row.subject.size_bytes,
            equivalent=row.verdict == "equivalent",
            marks=timing.marks,
        )
        for row, timing, ms in both
    ]


def _said(point: Point, best: bool) -> str:
    words = f"{point.label}: {percent(point.top1, 2)} at {significant(point.ms)} ms"
    if not point.equivalent:
        return f"{words}, not equivalent"
    if point.marks:
        return f"{words}, not settled"
    return f"{words}, in the Pareto set" if best else words


def _scatter(axes: Any, points: Sequence[Point], best: Sequence[Point]) -> None:
    axes.grid(visible=True, axis="y", color=GRID, linewidth=1)
    shares = [point.top1 for point in points]
    room = max(0.005, (max(shares) - min(shares)) * 0.25)
    axes.set_ylim((min(shares) - room) * 100, min(100.5, (max(shares) + room) * 100))
    speeds = [point.ms for point in points]
    axes.locator_params(axis="y", nbins=6)
    if wide(speeds):
        log_axis(axes, "x", min(speeds) / 2, max(speeds) * 2)
    else:
        axes.set_xlim(0, max(speeds) * 1.05)
        axes.locator_params(axis="x", nbins=6)
    left, right = axes.transData.transform([(x, shares[0]) for x in axes.get_xlim()])[:, 0]
    centres = axes.transData.transform([(point.ms, point.top1 * 100) for point in points])
    taken = [_box(across, up, 9, 9) for across, up in centres]
    for point in sorted(points, key=lambda p: (p.ms, p.top1, p.label)):
        place = (point.ms, point.top1 * 100)
        _draw(axes, point, place, ringed=point in best)
        across, up = axes.transData.transform(place)
        half = text_width(point.label) / 2
        shift, box = _free_place(across, up, half, taken, (left, right + 56))
        taken.append(box)
        axes.annotate(point.label, place, xytext=shift, textcoords="offset points",
                      ha="center", va="center", color=INK, annotation_clip=False)  # fmt: skip


def _draw(axes: Any, point: Point, place: tuple[float, float], *, ringed: bool) -> None:
    if not point.equivalent:
        axes.plot(*place, "X", color=BAD, markersize=9)
    elif point.marks:
        axes.plot(*place, "D", markeredgecolor=WARN, markerfacecolor="none", markersize=8,
                  markeredgewidth=2)  # fmt: skip
    else:
        axes.plot(*place, "o", color=GOOD, markersize=9)
    if ringed:
        axes.plot(*place, "o", markeredgecolor=INK, markerfacecolor="none", markersize=16,
                  markeredgewidth=1.5)  # fmt: skip


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
