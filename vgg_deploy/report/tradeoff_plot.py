"""Accuracy against latency."""

from __future__ import annotations

from collections.abc import Sequence
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
    text_width,
)
from vgg_deploy.report.labels import short_labels
from vgg_deploy.report.latency import median_ms
from vgg_deploy.report.quantities import percent, significant
from vgg_deploy.results import BenchReport, Comparison, VerifyReport

_WIDTH = 720.0


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
    points = [(ms, _top1(row), labels[row.subject.id], row) for row, ms in both]
    with drawing():
        canvas = Canvas(_WIDTH, 360)
        axes = canvas.axes(64, 20, _WIDTH - 64 - 140, 284)
        _scatter(axes, points)
        axes.set_xlabel(f"p50 at batch {batch}, milliseconds", color=MUTED, labelpad=6)
        description = "; ".join(
            f"{n}: {percent(y, 2)} at {significant(x)} ms" for x, y, n, _ in points
        )
        svg = canvas.svg("tradeoff", "Accuracy against latency", f"{description}.")
    return Plot(
        name="tradeoff",
        title="Accuracy against latency",
        caption="Top-1 accuracy in percent. Further up and further left is better; a cross was "
        "not found equivalent.",
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
    axes.set_xlim(0, max(x for x, _, _, _ in points) * 1.05)
    axes.locator_params(nbins=6)
    taken: list[tuple[float, float, float, float]] = []
    for x, y, label, row in sorted(points, key=lambda p: p[:3]):
        good = row.verdict == "equivalent"
        axes.plot(x, y * 100, "o" if good else "X", color=GOOD if good else BAD, markersize=9)
        across, down = axes.transData.transform((x, y * 100))
        shift = _free_place(across, down, text_width(label), taken)
        axes.annotate(label, (x, y * 100), xytext=shift, textcoords="offset points",
                      va="center", color=INK, annotation_clip=False)  # fmt: skip


def _free_place(
    x: float, y: float, width: float, taken: list[tuple[float, float, float, float]]
) -> tuple[float, float]:
    """Offset of a label from its point that meets no label placed before."""
    box = (x, y, x, y)
    for step in range(12):
        rise = 16.0 * ((step + 1) // 2) * (-1 if step % 2 else 1)
        box = (x + 10, y + rise - 8, x + 10 + width, y + rise + 8)
        if not any(_overlap(box, other) for other in taken):
            break
    taken.append(box)
    return (10.0, box[1] + 8 - y)


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
