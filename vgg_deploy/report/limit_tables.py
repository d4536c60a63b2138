"""What the machine can do at most, how near a timing comes to it, and where the time goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from vgg_deploy.bench.roofline import Limit, limit_of
from vgg_deploy.model.layers import vgg_layers
from vgg_deploy.report.latency import median_ms
from vgg_deploy.report.quantities import MISSING, duration, fixed_all, percent, significant
from vgg_deploy.report.table import Column, RowStatus, Table, simple_table
from vgg_deploy.results import BenchReport, LayerProfile, Timing
from vgg_deploy.spec import ModelSpec

_GIGA = 1e9
_WINOGRAD = (
    "Above 100 %: a Winograd convolution needs fewer multiplications than are counted, "
    "and what stays in a cache needs no memory."
)
_TOO_LOW = (
    "A ceiling that was measured beside other programs, or while the processor was throttled, "
    "is too low, and the shares of it too high."
)


def why_above(report: BenchReport) -> str:
    """Why a share of a limit can be more than all of it."""
    beside = any(ceiling.marks for ceiling in report.ceilings)
    return f"{_WINOGRAD} {_TOO_LOW}" if beside else _WINOGRAD


@dataclass(frozen=True, kw_only=True)
class Share:
    """How much of the machine's limit a timing reaches, and what binds it."""

    limit: Limit
    share: float  # 1: as fast as the ceilings allow

    @property
    def text(self) -> str:
        """``arithmetic``, or with what waits for memory: ``arithmetic, memory 34 %``."""
        waiting = self.limit.memory_share
        if waiting < 0.01:
            return "arithmetic"
        if waiting > 0.99:
            return "memory"
        other = "memory" if self.limit.binds == "arithmetic" else "arithmetic"
        part = waiting if other == "memory" else 1 - waiting
        return f"{self.limit.binds}, {other} {percent(part, 0)}"


def share_of(row: Timing, report: BenchReport, spec: ModelSpec) -> Share | None:
    """The share of one timing; None without samples or without the ceilings."""
    ms = median_ms(row)
    if not ms:
        return None
    limit = limit_of(
        vgg_layers(spec), row.batch, row.subject.precision, row.subject.device, report.ceilings
    )
    return Share(limit=limit, share=1e3 * limit.seconds / ms) if limit else None


def ceilings_table(report: BenchReport) -> tuple[Table, ...]:
    """The ceilings that were measured; none without any."""
    if not report.ceilings:
        return ()
    rows = [
        (
            c.device,
            f"matrix product, {c.precision}" if c.kind == "gemm" else "copy",
            significant(c.per_s / _GIGA),
            "GFLOP/s" if c.kind == "gemm" and c.precision != "int8" else
            "Gop/s" if c.kind == "gemm" else "GB/s",
            c.how,
            "; ".join(c.marks),
        )
        for c in report.ceilings
    ]  # fmt: skip
    columns = [
        Column(name="Device"),
        Column(name="What"),
        Column(name="Best", align="right"),
        Column(name="Unit"),
        Column(name="How", align="prose"),
        Column(name="Reason", align="prose"),
    ]
    statuses: list[RowStatus] = ["warn" if reason else "plain" for *_, reason in rows]
    note = _TOO_LOW if "warn" in statuses else ""
    title = "What this machine can do at most"
    table = simple_table(title, columns, rows, statuses=statuses, note=note)
    return (table.without_empty_columns(),)


def layers_table(report: BenchReport, spec: ModelSpec) -> tuple[Table, ...]:
    """One table per profile: every layer's time as counted and as measured."""
    return tuple(_profile_table(profile, report, spec) for profile in report.layers)


def layer_rows(
    profile: LayerProfile, report: BenchReport, spec: ModelSpec
) -> list[tuple[str, float, float | None, str]]:
    """Name, measured median in seconds, least seconds, what binds; ``other`` has no limit."""
    subject = profile.subject
    limit = limit_of(
        vgg_layers(spec), profile.batch, subject.precision, subject.device, report.ceilings
    )
    bounds = {bound.name: bound for bound in limit.bounds} if limit else {}
    rows: list[tuple[str, float, float | None, str]] = []
    for timing in profile.layers:
        bound = bounds.get(timing.name)
        seconds = median(timing.samples_ns) / 1e9
        rows.append(
            (timing.name, seconds, bound.seconds if bound else None, bound.binds if bound else "")
        )
    return rows


def _profile_table(profile: LayerProfile, report: BenchReport, spec: ModelSpec) -> Table:
    counted = {layer.name: layer for layer in vgg_layers(spec)}
    found = layer_rows(profile, report, spec)
    total = sum(seconds for _, seconds, _, _ in found)
    measured = fixed_all([1e3 * seconds for _, seconds, _, _ in found])
    macs = sum(layer.macs for layer in counted.values())
    cells: list[Sequence[str]] = []
    for (name, seconds, least, binds), ms in zip(found, measured, strict=True):
        layer = counted.get(name)
        cells.append(
            (
                name,
                f"{layer.macs * profile.batch / 1e6:,.2f}" if layer and layer.macs else MISSING,
                percent(layer.macs / macs) if layer and layer.macs else MISSING,
                ms,
                percent(seconds / total) if total else MISSING,
                duration(least) if least else MISSING,
                percent(least / seconds, 0) if least and seconds else MISSING,
                binds,
            )
        )
    columns = [
        Column(name="Layer"),
        Column(name="Multiply-adds", unit="M", align="right"),
        Column(name="Of all", align="right"),
        Column(name="Measured", unit="ms", align="right"),
        Column(name="Of the time", align="right"),
        Column(name="Least possible", align="right", extra=True),
        Column(name="Of its limit", align="right"),
        Column(name="Bound by"),
    ]
    title = f"Layer by layer: {profile.subject.backend}, {profile.subject.artifact}"
    note = f"Batch {profile.batch}, {profile.how}, medians. Other: what is no layer's, such "
    note += "as reordering, flattening, conversions and a ReLU that is not fused. "
    note += why_above(report)
    return simple_table(title, columns, cells, note=note).without_empty_columns()
