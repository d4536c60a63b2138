"""What the driver said of a GPU while it was measured."""

from __future__ import annotations

from collections.abc import Mapping

from vgg_deploy.report.judged import is_stale
from vgg_deploy.report.quantities import MISSING, size
from vgg_deploy.report.table import Column, Row, Table
from vgg_deploy.results import BenchReport, GpuState, Timing

_COLUMNS = (
    Column(name="Backend"),
    Column(name="Artifact"),
    Column(name="Batch", align="right"),
    Column(name="Clock", unit="MHz", align="right"),
    Column(name="Temperature", unit="°C", align="right"),
    Column(name="Power", unit="W", align="right"),
    Column(name="GPU memory", align="right"),
    Column(name="Slowed by"),
    Column(name="Others", align="right"),
)


def gpu_table(report: BenchReport, current: Mapping[str, str] | None = None) -> Table | None:
    """Clocks, temperature, power and memory per timing; None without a GPU."""
    rows = tuple(
        _row(row, row.gpu, is_stale(row.subject, current)) for row in report.rows if row.gpu
    )
    title = "The GPU while it was measured"
    return Table(title=title, columns=_COLUMNS, rows=rows) if rows else None


def _row(timing: Timing, gpu: GpuState, stale: bool) -> Row:
    return Row(
        cells=(
            timing.subject.backend,
            timing.subject.artifact,
            str(timing.batch),
            _span(gpu.sm_mhz),
            _span(gpu.temperature_c),
            _span(gpu.power_w),
            size(gpu.memory_bytes),
            ", ".join(gpu.slowed_by) or MISSING,
            str(gpu.other_processes or MISSING),
        ),
        notes=("stale",) if stale else (),
        status="warn" if stale or gpu.slowed_by or gpu.other_processes else "plain",
    )


def _span(ends: tuple[float, float]) -> str:
    low, high = (f"{end:,.0f}" for end in ends)
    return low if low == high else f"{low} to {high}"
