"""How a network learned: a curve and a row per epoch, and which epoch became the bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vgg_deploy.errors import counted
from vgg_deploy.report.canvas import GRID, INK, MUTED, SERIES, Canvas, Plot, drawing, spread
from vgg_deploy.report.quantities import MISSING, duration, fixed_all, percent, significant
from vgg_deploy.report.table import Column, RowStatus, Table, simple_table

Metrics = Sequence[Mapping[str, object]]
_WIDTH = 720.0
KEPT = "kept"  # marks the row whose weights became the bundle
_SPLITS = ("train", "validation", "test")


def number(row: Mapping[str, object], key: str) -> float | None:
    """A number of a metrics row; ``None`` when absent or not a number."""
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def kept_epoch(metrics: Metrics) -> Mapping[str, object] | None:
    """The row whose weights became the bundle: the one marked, else as training chooses it."""
    for row in metrics:
        if row.get(KEPT) is True:
            return row
    split, known = _judged(metrics)
    return max(known, key=lambda pair: (pair[0], _low(pair[1], split)))[1] if known else None


def with_kept(metrics: Metrics, epoch: str | None) -> tuple[Mapping[str, object], ...]:
    """The rows, marked that of the epoch on record.

    The versions that recorded none kept the first of equally accurate ones.
    """
    if epoch is None:
        _, known = _judged(metrics)
        first = max(known, key=lambda pair: pair[0])[1] if known else None
        return tuple({**row, KEPT: True} if row is first else row for row in metrics)
    return tuple({**row, KEPT: True} if str(row.get("epoch")) == epoch else row for row in metrics)


def _judged(metrics: Metrics) -> tuple[str, list[tuple[float, Mapping[str, object]]]]:
    """The split that epochs are chosen by, and every row with its accuracy on that."""
    held = any(number(row, "validation_accuracy") is not None for row in metrics)
    split = "validation" if held else "test"
    judged = [(_finite(row, f"{split}_accuracy"), row) for row in metrics]
    return split, [(value, row) for value, row in judged if value is not None]


def _finite(row: Mapping[str, object], key: str) -> float | None:
    value = number(row, key)
    return value if value is not None and math.isfinite(value) else None


def _low(row: Mapping[str, object], split: str) -> float:
    """More for a lower loss, by which equal accuracies are told apart."""
    loss = _finite(row, f"{split}_loss")
    return -math.inf if loss is None else -loss


def kept_text(metrics: Metrics) -> str:
    """``epoch 21 of 30, the best on the test images: test accuracy 88.30 %``; may be empty."""
    kept = kept_epoch(metrics)
    if kept is None or (epoch := number(kept, "epoch")) is None:
        return ""
    held = number(kept, "validation_accuracy")
    by = "test" if held is None else "validation"
    figures = [
        f"{split} accuracy {percent(value, 2)}"
        for split in ("validation", "test")
        if (value := number(kept, f"{split}_accuracy")) is not None
    ]
    said = f"epoch {epoch:g} of {len(metrics):,}, the best on the {by} images"
    return f"{said}: {', '.join(figures)}"


def learning_plot(metrics: Metrics) -> Plot | None:
    """Loss and accuracy per epoch, as in the book's training plots."""
    epochs = [number(row, "epoch") for row in metrics]
    panels = (
        ("Loss", (("loss", "loss"),)),
        ("Accuracy", tuple((name, f"{name}_accuracy") for name in _SPLITS)),
    )
    known = [p for p in panels if any(_series(metrics, epochs, key) for _, key in p[1])]
    if not known:
        return None
    kept = number(kept_epoch(metrics) or {}, "epoch")
    with drawing():
        canvas = Canvas(_WIDTH, 290)
        for place, (heading, series) in enumerate(known):
            axes = canvas.axes(48 + place * 360, 44, 212, 196)
            canvas.text(8 + place * 360, 18, heading, color=INK, fontweight="bold")
            lines = {label: _series(metrics, epochs, key) for label, key in series}
            _panel(axes, {k: v for k, v in lines.items() if v}, kept)
        description = _description(metrics)
        svg = canvas.svg("learning", "Learning curve", description)
    return Plot(
        name="learning",
        title="Learning curve",
        caption="Mean training loss, and the share of images classified correctly, after each "
        "epoch. Training's are taken while the weights change, with dropout, augmentation and "
        "label smoothing where the recipe has them: they may be worse than the test's. Upright "
        "line: the epoch that became the bundle.",
        description=description,
        svg=svg,
    )


def training_table(metrics: Metrics) -> Table:
    """One row per epoch of ``metrics.jsonl``; columns that no row has are left out."""
    epochs = [number(row, "epoch") for row in metrics]
    cells = [
        ["" if e is None else f"{e:g}" for e in epochs],
        fixed_all([number(row, "loss") for row in metrics]),
        [percent(number(row, "train_accuracy"), 2) for row in metrics],
        [percent(number(row, "validation_accuracy"), 2) for row in metrics],
        [percent(number(row, "test_accuracy"), 2) for row in metrics],
        [_rate(number(row, "examples_per_second")) for row in metrics],
        [duration(number(row, "seconds")) for row in metrics],
    ]
    accuracies = (f"{split} accuracy" for split in ("Train", "Validation", "Test"))
    names = ("Epoch", "Loss", *accuracies, "Examples/s", "Time")
    columns = [Column(name=name, align="right" if i else "left") for i, name in enumerate(names)]
    kept, text = kept_epoch(metrics), kept_text(metrics)
    marks: list[RowStatus] = ["ok" if row is kept else "plain" for row in metrics]
    note = f"The bundle holds {text}." if text else ""
    table = simple_table("Epochs", columns, zip(*cells, strict=True), statuses=marks, note=note)
    return table.without_empty_columns()


def _rate(value: float | None) -> str:
    return MISSING if value is None else significant(value)


def _series(
    metrics: Metrics, epochs: Sequence[float | None], key: str
) -> list[tuple[float, float]]:
    pairs = zip(epochs, (number(row, key) for row in metrics), strict=True)
    return [(e, v) for e, v in pairs if e is not None and v is not None and math.isfinite(v)]


def _panel(axes: Any, lines: Mapping[str, list[tuple[float, float]]], kept: float | None) -> None:
    axes.grid(visible=False, axis="x")
    axes.grid(visible=True, axis="y", color=GRID, linewidth=1)
    axes.set_xlabel("epoch", color=MUTED, labelpad=6)
    for index, points in enumerate(lines.values()):
        style = {"color": SERIES[index], "marker": "osD"[index], "markersize": 6, "linewidth": 2}
        axes.plot(*zip(*points, strict=True), **style)
    axes.margins(x=0.04, y=0.12)
    epochs = sorted({e for points in lines.values() for e, _ in points})
    if kept is not None and len(epochs) > 1:
        axes.axvline(kept, color=MUTED, linewidth=1, zorder=0)
    step = max(1, math.ceil(len(epochs) / 8))
    axes.set_xticks(epochs[::step], [f"{e:g}" for e in epochs[::step]])
    axes.locator_params(axis="y", nbins=5)
    ends = [points[-1] for points in lines.values()]
    bottom, top = axes.get_ylim()
    heights = spread([y for _, y in ends], (top - bottom) * 18 / 196)
    for index, (label, (x, y)) in enumerate(zip(lines, ends, strict=True)):
        value = significant(y) if len(lines) == 1 and y > 1.5 else f"{y:.3f}"
        axes.annotate(
            f"{label} {value}" if len(lines) > 1 else value,
            (x, heights[index]),
            xytext=(12, 0),
            textcoords="offset points",
            va="center",
            color=SERIES[index],
            annotation_clip=False,
        )


def _description(metrics: Metrics) -> str:
    last = metrics[-1]
    loss = number(last, "loss")
    epochs = counted(len(metrics), "epoch")
    said = [f"After {epochs}: loss {significant(loss)}" if loss is not None else ""]
    said += [
        f"{key.replace('_', ' ')} {percent(value, 2)}"
        for key in (f"{name}_accuracy" for name in _SPLITS)
        if (value := number(last, key)) is not None
    ]
    kept = f" The bundle holds {text}." if (text := kept_text(metrics)) else ""
    return ", ".join(filter(None, said)) + "." + kept
