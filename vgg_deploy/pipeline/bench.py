"""Time a bundle: every usable backend at each batch size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vgg_deploy import stored
from vgg_deploy.backends.base import Array
from vgg_deploy.bench.cell import bench_cell
from vgg_deploy.bench.measure import MeasureOptions
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import capture, now
from vgg_deploy.errors import (
    BackendNotAvailable,
    DigestMismatch,
    MeasurementNotValid,
    RefusedInput,
    VggDeployError,
)
from vgg_deploy.pipeline.cells import Cell, Selection, plan, results_key
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.results import (
    BENCH_FILE,
    SCHEMA_VERSION,
    VERIFY_FILE,
    BenchReport,
    Timing,
    VerifyReport,
)

FACTORY = "vgg_deploy.backends:get_backend"
CLOCK = "host clock (perf_counter_ns) around run and sync; input resident, output not read"
NOT_VERIFIED = "not verified: run vgg-deploy verify first"


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is timed, and for how long."""

    selection: Selection = field(default_factory=Selection)
    batches: tuple[int, ...] = (1, 8)
    seconds: float = 3.0
    percentile: int = 90

    def __post_init__(self) -> None:
        self.measure_options()  # refuses what cannot be measured

    def measure_options(self) -> MeasureOptions:
        """The timing loop's part of these options."""
        return MeasureOptions(min_seconds=self.seconds, percentile=self.percentile)


def bench_bundle(
    bundle: Bundle, options: BenchOptions, watch: Watcher | None = None, *, reuse: bool = False
) -> BenchReport:
    """Time every planned cell and store the report in the bundle.

    What verify has not passed, by digest, is timed but marked. With ``reuse`` a stored report of
    the same files, options and versions is returned.
    """
    watch = watch or Silent()
    cells = plan(bundle, options.selection)
    bundle.check()
    passed = _passed(bundle)
    key = results_key(cells, options, {"passed": str(sorted(passed))})
    if reuse and (earlier := _earlier(bundle, key)):
        watch.say("bench: reused, no file, option or version has changed")
        return earlier
    rows: list[Timing] = []
    for cell in cells:
        rows += _rows(cell, bundle, options, passed, watch)
    report = BenchReport(
        schema_version=SCHEMA_VERSION,
        made_at=now(),
        environment=capture(),
        key=key,
        clock=CLOCK,
        options={"seconds": f"{options.seconds:g}", "percentile": str(options.percentile)},
        rows=tuple(rows),
    )
    stored.save(bundle.root / BENCH_FILE, report)
    return report


def bench_error(report: BenchReport) -> VggDeployError | None:
    """The error a report stands for: a cell that broke, or nothing timed at all."""
    failed = [row for row in report.rows if row.status == "failed"]
    if failed:
        first = failed[0]
        return MeasurementNotValid(
            f"{len(failed)} of {len(report.rows)} cells failed; first: {first.subject.id} at "
            f"batch {first.batch}: {first.reason}",
            "see the table; verify the bundle, then try the failed backend alone",
        )
    if not any(row.status == "measured" for row in report.rows):
        return BackendNotAvailable(
            "no backend could be timed", "see what is missing: vgg-deploy doctor"
        )
    return None


def _rows(
    cell: Cell, bundle: Bundle, options: BenchOptions, passed: set[tuple[str, str]], watch: Watcher
) -> tuple[Timing, ...]:
    if cell.artifact is None or cell.missing:
        return (Timing(subject=cell.subject, batch=0, status="skipped", reason=cell.reason),)
    verified = (cell.backend.name, cell.artifact.sha256) in passed
    rows = bench_cell(
        cell.backend,
        cell.artifact,
        bundle.root,
        cell.subject,
        options.batches,
        lambda size: _input(bundle, size),
        options.measure_options(),
        factory=FACTORY,
        marks=() if verified else (NOT_VERIFIED,),
        begin=lambda size: _watched(watch, f"bench {cell.subject.id}, batch {size}", options),
    )
    watch.say(f"bench: {cell.subject.id} {', '.join(row.status for row in rows)}")
    return rows


def _watched(watch: Watcher, what: str, options: BenchOptions) -> Callable[[float], None]:
    """Begin a step of known length; what is returned moves it on by so many seconds."""
    watch.begin(what, round(10 * options.seconds), "tenths of a second")
    return lambda seconds: watch.advance(round(10 * seconds))


def _input(bundle: Bundle, size: int) -> Array:
    """Seeded noise over the range that preprocessing makes: float32 ``[N, C, S, S]``."""
    spec = bundle.card.spec
    low, high = bundle.card.preprocessing.input_range
    shape = (size, spec.channels, spec.size, spec.size)
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)


def _passed(bundle: Bundle) -> set[tuple[str, str]]:
    """Backend and digest of what the stored verify report found equivalent."""
    path = bundle.root / VERIFY_FILE
    try:
        report = stored.load(VerifyReport, path) if path.exists() else None
    except RefusedInput:
        return set()
    rows = report.rows if report else ()
    return {(r.subject.backend, r.subject.sha256) for r in rows if r.verdict == "equivalent"}


def _earlier(bundle: Bundle, key: str) -> BenchReport | None:
    path = bundle.root / BENCH_FILE
    try:
        report = stored.load(BenchReport, path) if path.exists() else None
    except (RefusedInput, DigestMismatch):
        return None  # unreadable or edited results are measured again
    return report if report and report.key == key else None
