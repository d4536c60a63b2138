"""Which classes are taken for which: the confusion matrix of one backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vgg_deploy.report.canvas import GOOD, INK, MUTED, Canvas, Plot, drawing, text_width
from vgg_deploy.report.quantities import percent
from vgg_deploy.results import Comparison

_CELL = 44.0
_MOST = 20  # classes; more would be a carpet
_SHORT = 14  # characters of a label beside the matrix


def confusion_plot(rows: Sequence[Comparison], labels: Sequence[str]) -> Plot | None:
    """The matrix of the first comparison that has one; None without, or with many classes."""
    count = len(labels)
    found = next((r for r in rows if r.accuracy and len(r.accuracy.confusion) == count), None)
    if found is None or found.accuracy is None or len(labels) > _MOST:
        return None
    matrix = found.accuracy.confusion
    names = [_short(label) for label in labels]
    side = _CELL * len(matrix)
    left = 16 + max(map(text_width, names))
    subject = found.subject
    title = f"What is taken for what: {subject.backend}, {subject.artifact}"
    description = _description(matrix, labels)
    with drawing():
        canvas = Canvas(left + side + 76, side + left * 0.75 + 44)
        axes = canvas.axes(left, left * 0.75 + 8, side, side)
        _cells(axes, matrix, names)
        svg = canvas.svg("confusion", title, description)
    return Plot(
        name="confusion",
        title=title,
        caption=f"Images of {found.accuracy.dataset} {found.accuracy.split}: a row per true class, "
        "a column per answer. Stronger: a larger share of the row. Empty: none.",
        description=description,
        svg=svg,
    )


def _cells(axes: Any, matrix: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    count = len(matrix)
    axes.grid(visible=False)
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    axes.xaxis.tick_top()
    axes.set_xticks(range(count), names, rotation=45, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(count), names)
    axes.tick_params(axis="both", labelcolor=INK, length=0)
    axes.tick_params(axis="x", pad=3)
    for i, line in enumerate(matrix):
        total = max(1, sum(line))
        for j, images in enumerate(line):
            share = images / total
            _cell(axes, i, j, share, images)


def _cell(axes: Any, i: int, j: int, share: float, images: int) -> None:
    axes.axhspan(i - 0.47, i + 0.47, _unit(j - 0.47, axes), _unit(j + 0.47, axes),
                 color=GOOD, alpha=0.04 + 0.46 * share, linewidth=0)  # fmt: skip
    if images:
        color = INK if i == j or share >= 0.01 else MUTED
        axes.text(j, i, f"{images:,}", ha="center", va="center", color=color, fontsize=11)


def _unit(place: float, axes: Any) -> float:
    low, high = axes.get_xlim()
    return float((place - low) / (high - low))


def _short(label: str) -> str:
    return label if len(label) <= _SHORT else label[: _SHORT - 1] + "…"


def _description(matrix: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    pairs = [
        (images / max(1, sum(line)), labels[i], labels[j], images)
        for i, line in enumerate(matrix)
        for j, images in enumerate(line)
        if i != j and images
    ]
    worst = sorted(pairs, reverse=True)[:5]
    if not worst:
        return "No image is taken for another class."
    said = "; ".join(f"{images:,} of {a} ({percent(s)}) taken for {b}" for s, a, b, images in worst)
    return f"Most frequent mistakes: {said}."
