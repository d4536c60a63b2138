"""Where the time goes, layer by layer, beside the least time each layer can take."""

from __future__ import annotations

from typing import Any

from vgg_deploy.report.canvas import GOOD, INK, MUTED, PAPER, SERIES, Canvas, Plot, drawing
from vgg_deploy.report.limit_tables import layer_rows
from vgg_deploy.report.quantities import percent, significant
from vgg_deploy.results import BenchReport, LayerProfile
from vgg_deploy.spec import ModelSpec

_WIDTH, _ROW, _LEFT = 720.0, 22.0, 84.0
Rows = list[tuple[str, float, float | None, str]]


def layers_plot(report: BenchReport, spec: ModelSpec) -> Plot | None:
    """A bar per layer of the first profile; None without one."""
    if not report.layers:
        return None
    profile = report.layers[0]
    rows = layer_rows(profile, report, spec)
    total = sum(seconds for _, seconds, _, _ in rows)
    if total <= 0:
        return None
    title = _title(profile)
    description = "; ".join(
        f"{name} {significant(1e3 * s)} ms, {percent(s / total)} of the time"
        + (f", at least {significant(1e3 * least)} ms by {binds}" if least else "")
        for name, s, least, binds in rows
    )
    with drawing():
        canvas = Canvas(_WIDTH, 16 + _ROW * len(rows) + 60)
        axes = canvas.axes(_LEFT, 16, _WIDTH - _LEFT - 70, _ROW * len(rows))
        _bars(axes, rows, total)
        axes.set_xlabel("milliseconds", color=MUTED, labelpad=6)
        svg = canvas.svg("layers", title, f"{description}.")
    return Plot(
        name="layers",
        title=title,
        caption="Bar: measured median, with its share of the time. Upright line: the least time by "
        "counted work and this machine’s ceilings. Orange stripes: the layer waits for memory.",
        description=f"{description}.",
        svg=svg,
    )


def _title(profile: LayerProfile) -> str:
    subject = profile.subject
    return f"Time per layer: {subject.backend}, {subject.artifact}, batch {profile.batch}"


def _bars(axes: Any, rows: Rows, total: float) -> None:
    far = max(max(s, least or 0) for _, s, least, _ in rows) * 1e3
    axes.set_xlim(0, far * 1.02)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.locator_params(axis="x", nbins=6)
    for place, (_, seconds, least, binds) in enumerate(rows):
        color = SERIES[1] if binds == "memory" else GOOD if binds else MUTED
        hatch = {"hatch": "///", "edgecolor": PAPER} if binds == "memory" else {}
        axes.barh(place, 1e3 * seconds, height=0.6, color=color, linewidth=0, **hatch)
        if least:
            axes.plot((1e3 * least,) * 2, (place - 0.4, place + 0.4), color=INK, linewidth=2)
        end = 1e3 * max(seconds, least or 0)
        axes.annotate(
            percent(seconds / total), (end, place), xytext=(8, 0), textcoords="offset points",
            va="center", color=INK, annotation_clip=False,
        )  # fmt: skip
