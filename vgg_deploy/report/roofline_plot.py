"""The roofline: what each layer reaches, below what the machine can do at its intensity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vgg_deploy.bench.roofline import Bound, Limit, limit_of
from vgg_deploy.model.layers import vgg_layers
from vgg_deploy.report.canvas import (
    GOOD,
    GRID,
    INK,
    MUTED,
    SERIES,
    Canvas,
    Plot,
    drawing,
    log_axis,
    spread,
)
from vgg_deploy.report.limit_tables import layer_rows
from vgg_deploy.report.quantities import significant
from vgg_deploy.results import BenchReport, LayerProfile
from vgg_deploy.spec import ModelSpec

_WIDTH, _HEIGHT = 720.0, 380.0
_GIGA = 1e9
Point = tuple[Bound, float]  # a layer and the operations per second it reaches


def roofline_plot(report: BenchReport, spec: ModelSpec) -> Plot | None:
    """Layers of the first profile that has its ceilings; None without one."""
    found = next(((p, limit) for p in report.layers if (limit := _limit(p, report, spec))), None)
    if found is None:
        return None
    profile, limit = found
    points = _points(profile, report, spec, limit)
    if not points:
        return None
    subject = profile.subject
    title = f"Roofline: {subject.backend}, {subject.artifact}, batch {profile.batch}"
    description = _description(points, limit)
    with drawing():
        canvas = Canvas(_WIDTH, _HEIGHT)
        axes = canvas.axes(64, 16, _WIDTH - 64 - 110, _HEIGHT - 76)
        _draw(axes, points, limit)
        axes.set_xlabel("operations per byte moved", color=MUTED, labelpad=6)
        svg = canvas.svg("roofline", title, description)
    return Plot(
        name="roofline",
        title=title,
        caption="Billions of operations per second over operations per byte, log scales. Lines: "
        "this machine’s measured copy bandwidth and matrix product. Round: convolutions; square: "
        "fully connected. Left of the corner a layer waits for memory. Above a line: Winograd "
        "convolutions multiply less than is counted, and a cache spares memory.",
        description=description,
        svg=svg,
    )


def _limit(profile: LayerProfile, report: BenchReport, spec: ModelSpec) -> Limit | None:
    subject = profile.subject
    layers = vgg_layers(spec)
    return limit_of(layers, profile.batch, subject.precision, subject.device, report.ceilings)


def _points(
    profile: LayerProfile, report: BenchReport, spec: ModelSpec, limit: Limit
) -> list[Point]:
    measured = {name: s for name, s, *_ in layer_rows(profile, report, spec) if s > 0}
    return [
        (bound, bound.operations / measured[bound.name])
        for bound in limit.bounds
        if bound.operations and bound.name in measured
    ]


def _draw(axes: Any, points: Sequence[Point], limit: Limit) -> None:
    peak, bandwidth = limit.gemm.per_s, limit.copy.per_s
    corner = peak / bandwidth
    low = min([corner, *(b.intensity for b, _ in points)]) / 2
    high = max([corner, *(b.intensity for b, _ in points)]) * 2
    rates = [rate for _, rate in points]
    bottom = min([low * bandwidth, *rates]) / _GIGA / 1.6
    top = max([peak, *rates]) / _GIGA * 1.8
    log_axis(axes, "x", low, high)
    log_axis(axes, "y", bottom, top)
    axes.grid(visible=True, axis="y", color=GRID, linewidth=1)
    axes.plot(
        (low, corner, high),
        [y / _GIGA for y in (low * bandwidth, peak, peak)],
        color=INK,
        linewidth=1.5,
    )
    middle = (low * corner) ** 0.5
    axes.annotate(
        f"copy {significant(bandwidth / _GIGA)} GB/s",
        (middle, middle * bandwidth / _GIGA),
        xytext=(-8, 8),
        textcoords="offset points",
        ha="right",
        color=INK,
        annotation_clip=False,
    )
    precision = limit.gemm.precision
    axes.annotate(
        f"{precision} product\n{significant(peak / _GIGA)} G/s",
        (high, peak / _GIGA),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        color=INK,
        annotation_clip=False,
    )
    for bound, rate in points:
        square = bound.name.startswith("fc")
        axes.plot(
            bound.intensity,
            rate / _GIGA,
            "s" if square else "o",
            color=SERIES[1] if square else GOOD,
            markersize=7,
            alpha=0.85,
        )
    _names(axes, points)


def _names(axes: Any, points: Sequence[Point]) -> None:
    """Names of the extreme points: the slowest, the fastest, and every product."""
    ranked = sorted(points, key=lambda p: p[1])
    chosen = {id(p): p for p in (ranked[0], ranked[-1], *points) if p[0].name.startswith("fc")}
    chosen |= {id(p): p for p in (ranked[0], ranked[-1])}
    picked = list(chosen.values())
    places = [float(axes.transData.transform((b.intensity, rate / _GIGA))[1]) for b, rate in picked]
    for (bound, rate), place, moved in zip(picked, places, spread(places, 15), strict=True):
        axes.annotate(
            bound.name,
            (bound.intensity, rate / _GIGA),
            xytext=(9, moved - place),
            textcoords="offset points",
            va="center",
            color=INK,
            annotation_clip=False,
        )


def _description(points: Sequence[Point], limit: Limit) -> str:
    said = "; ".join(
        f"{bound.name} {significant(rate / _GIGA)} G operations/s at "
        f"{significant(bound.intensity)} per byte, bound by {bound.binds}"
        for bound, rate in points
    )
    return (
        f"Copy {significant(limit.copy.per_s / _GIGA)} GB/s, matrix product "
        f"{significant(limit.gemm.per_s / _GIGA)} G operations/s. {said}."
    )
