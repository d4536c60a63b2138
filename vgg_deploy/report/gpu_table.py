"""What the driver said of a GPU while it was measured."""

from __future__ import annotations

from vgg_deploy.report.quantities import MISSING, size
from vgg_deploy.report.table import Column, Table, simple_table
from vgg_deploy.results import BenchReport


def gpu_table(report: BenchReport) -> Table | None:
    """Clocks, temperature, power and memory per timing; None without a GPU."""
    cells, statuses = [], []
    for row in report.rows:
        if row.gpu is None:
            continue
        gpu = row.gpu
        cells.append(
            (
                row.subject.backend,
                row.subject.artifact,
                str(row.batch),
                _span(gpu.sm_mhz),
                _span(gpu.temperature_c),
                _span(gpu.power_w),
                size(gpu.memory_bytes),
                ", ".join(gpu.slowed_by) or MISSING,
                str(gpu.other_processes or MISSING),
            )
        )
        statuses.append("warn" if gpu.slowed_by or gpu.other_processes else "plain")
    if not cells:
        return None
    columns = [
        Column(name="Backend"),
        Column(name="Artifact"),
        Column(name="Batch", align="right"),
        Column(name="Clock", unit="MHz", align="right"),
        Column(name="Temperature", unit="°C", align="right"),
        Column(name="Power", unit="W", align="right"),
        Column(name="GPU memory", align="right"),
        Column(name="Slowed by"),
        Column(name="Others", align="right"),
    ]
    return simple_table(
        "The GPU while it was measured", columns, cells,
        statuses=["warn" if s == "warn" else "plain" for s in statuses],
    )  # fmt: skip


def _span(ends: tuple[float, float]) -> str:
    low, high = (f"{end:,.0f}" for end in ends)
    return low if low == high else f"{low} to {high}"
