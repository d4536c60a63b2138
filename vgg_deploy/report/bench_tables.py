"""Tables of stored timings: latency per backend and batch, and what it costs to start."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from statistics import median

from vgg_deploy.errors import counted
from vgg_deploy.report.judged import STALE, is_stale, tally
from vgg_deploy.report.latency import Latency, latency, median_ms
from vgg_deploy.report.limit_tables import share_of, why_above
from vgg_deploy.report.quantities import (
    MISSING,
    duration,
    fixed_all,
    percent,
    significant,
    size,
    times,
)
from vgg_deploy.report.standing import is_verdict
from vgg_deploy.report.table import Column, Row, RowStatus, Table
from vgg_deploy.results import BenchReport, Subject, Timing
from vgg_deploy.spec import ModelSpec

UNVERIFIED = "not proven equivalent"
_MILLISECONDS = ("p50", "p90", "p95", "p99")


def bench_table(
    report: BenchReport,
    current: Mapping[str, str] | None = None,
    verified: Collection[Subject] | None = None,
    spec: ModelSpec | None = None,
) -> Table:
    """One row per backend, artifact and batch; within a batch, fastest first.

    With ``spec`` and measured ceilings each row says what share of the machine's limit it reaches.

    With ``verified`` (the subjects a current verify found equivalent) every other measured row
    says that it is not proven.
    """
    ordered = sorted(report.rows, key=_by_batch_and_speed)
    stats = [latency(row) for row in ordered]
    fastest = _fastest(report, current)
    milliseconds = fixed_all([getattr(s, p) if s else None for s in stats for p in _MILLISECONDS])
    rates = [significant(s.images_per_s) if s else MISSING for s in stats]
    rows = []
    for i, (row, found) in enumerate(zip(ordered, stats, strict=True)):
        status, reason = _state(row, current, verified)
        middle = (
            *milliseconds[i * len(_MILLISECONDS) : (i + 1) * len(_MILLISECONDS)],
            rates[i],
            _ratio(found, fastest.get(row.batch)),
            _end_to_end(row),
            *_limit_cells(row, report, spec),
            percent(found.cv) if found else MISSING,
            f"{found.runs:,}" if found else MISSING,
        )
        batch = str(row.batch) if row.batch else MISSING  # 0: skipped before a batch was chosen
        head = (row.subject.backend, row.subject.artifact, batch)
        rows.append(Row(cells=(*head, *middle, reason), status=status))
    return Table(
        title="Latency in milliseconds per batch, and throughput",
        columns=_bench_columns(),
        rows=tuple(rows),
        note=_bench_note(report, current) + _above(report, spec),
    ).without_empty_columns()


def startup_table(report: BenchReport, current: Mapping[str, str] | None = None) -> Table:
    """One row per backend and artifact: load time, first inference, peak memory, file size."""
    columns = (
        Column(name="Backend"),
        Column(name="Artifact"),
        *(
            Column(name=name, align="right")
            for name in ("File", "Import", "Load", "First inference", "Peak memory")
        ),
        Column(name="Reason", align="prose"),
    )
    rows = []
    for timing in _with_start(report):
        subject = timing.subject
        stale = is_stale(subject, current)
        rows.append(
            Row(
                cells=(
                    subject.backend,
                    subject.artifact,
                    size(subject.size_bytes),
                    duration(timing.import_s),
                    duration(timing.load_s),
                    duration(timing.first_s),
                    size(timing.peak_memory_bytes),
                    timing.reason,
                ),
                notes=("stale",) if stale else (),
                status="warn" if stale else "plain",
            )
        )
    note = "Each in a fresh process; importing the runtime is counted apart from loading the file."
    return Table(
        title="Start-up and memory", columns=columns, rows=tuple(rows), note=note
    ).without_empty_columns()


def _bench_columns() -> tuple[Column, ...]:
    return (
        Column(name="Backend"),
        Column(name="Artifact"),
        Column(name="Batch", align="right"),
        *(Column(name=p, align="right", extra=p == "p95") for p in _MILLISECONDS),
        Column(name="Images/s", align="right"),
        Column(name="To fastest", align="right", extra=True),
        Column(name="End to end", align="right", extra=True),
        Column(name="Of limit", align="right"),
        Column(name="Bound by", extra=True),
        Column(name="CV", align="right", extra=True),
        Column(name="Runs", align="right", extra=True),
        Column(name="Reason", align="prose"),
    )


def _limit_cells(row: Timing, report: BenchReport, spec: ModelSpec | None) -> tuple[str, str]:
    share = share_of(row, report, spec) if spec else None
    return (percent(share.share, 0), share.text) if share else (MISSING, MISSING)


def _end_to_end(row: Timing) -> str:
    """Median of whole calls, host to host."""
    return f"{significant(median(row.end_to_end_ns) / 1e6)}" if row.end_to_end_ns else MISSING


def _by_batch_and_speed(row: Timing) -> tuple[bool, int, int, float, str]:
    order = {"measured": 0, "failed": 1, "skipped": 2}
    speed = median_ms(row) or math.inf
    return (row.batch == 0, row.batch, order[row.status], speed, row.subject.id)


def _ratio(found: Latency | None, fastest: float | None) -> str:
    if found is None or found.p50 is None or not fastest:
        return MISSING
    return times(found.p50 / fastest)


def _fastest(report: BenchReport, current: Mapping[str, str] | None) -> dict[int, float]:
    """Lowest p50 per batch, of files the bundle still has."""
    best: dict[int, float] = {}
    for row in report.rows:
        speed = median_ms(row)
        if speed and not is_stale(row.subject, current):
            best[row.batch] = min(speed, best.get(row.batch, speed))
    return best


def _state(
    row: Timing,
    current: Mapping[str, str] | None,
    verified: Collection[Subject] | None,
) -> tuple[RowStatus, str]:
    if row.status == "skipped":
        return "skipped", f"skipped: {row.reason}"
    if row.status == "failed":
        return "failed", f"failed: {row.reason}"
    if is_stale(row.subject, current):
        return "warn", STALE
    remarks = list(row.marks)
    said = any(map(is_verdict, row.marks))
    if verified is not None and row.subject not in verified and not said:
        remarks.append(UNVERIFIED)
    if remarks:
        return "warn", "; ".join(remarks)
    return "ok", row.reason


def _bench_note(report: BenchReport, current: Mapping[str, str] | None) -> str:
    words = ["stale" if _measured_stale(r, current) else r.status for r in report.rows]
    told = tally(words, ("measured", "failed", "skipped", "stale")) or "nothing was timed"
    warm = [r.warmup_runs for r in report.rows if r.status == "measured"]
    warmed = f" Warm-up: {_span(warm)} runs." if any(warm) else ""
    unknown = sum(r.status == "measured" and r.others_cores is None for r in report.rows)
    beside = (
        f" Whether other programs ran beside {counted(unknown, 'timing')} could not be told."
        if unknown
        else ""
    )
    return f"{told}. Clock: {report.clock}.{warmed}{beside}"


def _above(report: BenchReport, spec: ModelSpec | None) -> str:
    """Why a share of the limit may be above 1, where one is."""
    shares = [share_of(row, report, spec) for row in report.rows] if spec else []
    return f" {why_above(report)}" if any(share and share.share > 1 for share in shares) else ""


def _span(values: list[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _measured_stale(row: Timing, current: Mapping[str, str] | None) -> bool:
    return row.status == "measured" and is_stale(row.subject, current)


def _with_start(report: BenchReport) -> list[Timing]:
    """The first measured row of each subject that knows its start-up cost, or why it does not."""
    found: dict[str, Timing] = {}
    rows = [row for row in report.rows if row.status == "measured"]
    for row in [r for r in rows if r.load_s is not None] + [r for r in rows if r.reason]:
        found.setdefault(row.subject.id, row)
    return list(found.values())
