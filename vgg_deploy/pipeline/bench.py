"""Time a bundle: every usable backend at each batch size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vgg_deploy import stored
from vgg_deploy.bench.cell import bench_cell
from vgg_deploy.bench.figures import FIGURES, gate_error, percentile_for
from vgg_deploy.bench.limits import ceilings
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
from vgg_deploy.gates import Gate
from vgg_deploy.pipeline.benchinput import make_input
from vgg_deploy.pipeline.cells import Cell, Selection, plan, results_key, without_cuda_graphs
from vgg_deploy.pipeline.profiles import profiles
from vgg_deploy.pipeline.usual import begin_usual
from vgg_deploy.pipeline.verified import Verdicts, mark_of, verdicts
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.results import (
    BENCH_FILE,
    SCHEMA_VERSION,
    BenchReport,
    Ceiling,
    Timing,
)

BENCH_FIGURES = tuple(FIGURES)  # what --fail-if knows
FACTORY = "vgg_deploy.backends:get_backend"
CLOCK = (
    "CPU: host clock (perf_counter_ns) around run and sync; GPU: CUDA events on the session's "
    "stream, idle before each run, so launching counts; input resident, output not read"
)


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is timed, and for how long."""

    selection: Selection = field(default_factory=Selection)
    batches: tuple[int, ...] = (1, 8)
    seconds: float = 3.0
    percentile: int = 90
    ceilings: bool = True  # also measure what the machine can do
    layers: bool = True  # also profile the ONNX files layer by layer
    cuda_graph: bool = True  # where a backend can: one launch for all kernels of a run
    gates: tuple[Gate, ...] = ()

    def __post_init__(self) -> None:
        self.measure_options()  # refuses what cannot be measured

    def measure_options(self) -> MeasureOptions:
        """The timing loop's part of these options."""
        percentile = percentile_for(self.gates, self.percentile)
        return MeasureOptions(min_seconds=self.seconds, percentile=percentile)


def bench_bundle(
    bundle: Bundle, options: BenchOptions, watch: Watcher | None = None, *, reuse: bool = False
) -> BenchReport:
    """Time every planned cell and store the report in the bundle.

    What verify has not passed, by digest, is timed but marked. With ``reuse`` a stored report of
    the same files, options and versions is returned, unless one of its cells failed.
    """
    watch = watch or Silent()
    cells = plan(bundle, options.selection)
    if not options.cuda_graph:
        cells = tuple(map(without_cuda_graphs, cells))
    bundle.check()
    found = verdicts(bundle, cells)
    key = results_key(cells, options, {"verdicts": str(sorted(found.items()))})
    if reuse and (earlier := _earlier(bundle, key)):
        watch.say(_reused(earlier, bundle))
        return earlier
    rows: list[Timing] = []
    for cell in cells:
        rows += _rows(cell, bundle, options, found, watch)
    report = BenchReport(
        schema_version=SCHEMA_VERSION,
        made_at=now(),
        environment=capture(),
        key=key,
        clock=CLOCK,
        options=_told(options),
        rows=tuple(rows),
        ceilings=_ceilings(rows, watch) if options.ceilings else (),
        layers=profiles(bundle, cells, min(options.batches), watch) if options.layers else (),
    )
    stored.save(bundle.root / BENCH_FILE, report)
    return report


def bench_error(report: BenchReport, gates: tuple[Gate, ...] = ()) -> VggDeployError | None:
    """The error a report stands for: a cell that broke, nothing timed at all, or a gate."""
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
    return gate_error(report, gates)


def _rows(
    cell: Cell, bundle: Bundle, options: BenchOptions, found: Verdicts, watch: Watcher
) -> tuple[Timing, ...]:
    if cell.artifact is None or cell.missing:
        return (Timing(subject=cell.subject, batch=0, status="skipped", reason=cell.reason),)
    with watch.undisturbed():
        rows = bench_cell(
            cell.backend,
            cell.artifact,
            bundle.root,
            cell.subject,
            options.batches,
            lambda size: make_input(bundle, size, cell.artifact),
            options.measure_options(),
            factory=FACTORY,
            marks=mark_of(cell, found),
            begin=lambda size: _watched(watch, f"bench {cell.subject.id}, batch {size}", options),
        )
    watch.say(f"bench: {cell.subject.id} {', '.join(row.status for row in rows)}")
    return rows


def _told(options: BenchOptions) -> dict[str, str]:
    """The options that matter to a reader of the results."""
    told = {"seconds": f"{options.seconds:g}", "percentile": str(options.percentile)}
    if not options.cuda_graph:
        told["cuda_graph"] = "off"
    if options.gates:
        told["fail-if"] = ", ".join(gate.text for gate in options.gates)
    return told


def _ceilings(rows: Sequence[Timing], watch: Watcher) -> tuple[Ceiling, ...]:
    """Of every device that something was timed on."""
    found: list[Ceiling] = []
    for device in sorted({row.subject.device for row in rows if row.status == "measured"}):
        what = f"ceilings of this machine, {device}"
        measured = begin_usual(watch, what, what)
        found += ceilings(device)
        measured()
    if found:
        watch.say(f"bench: {len(found)} ceilings of this machine measured")
    return tuple(found)


def _watched(watch: Watcher, what: str, options: BenchOptions) -> Callable[[float], None]:
    """Begin a step of known length, in tenths of seconds; what is returned moves it on."""
    watch.begin(what, round(10 * options.seconds))
    return lambda seconds: watch.advance(round(10 * seconds))


def _earlier(bundle: Bundle, key: str) -> BenchReport | None:
    path = bundle.root / BENCH_FILE
    try:
        report = stored.load(BenchReport, path) if path.exists() else None
    except (RefusedInput, DigestMismatch):
        return None  # unreadable or edited results are measured again
    if report is None or report.key != key or any(r.status == "failed" for r in report.rows):
        return None  # what failed may have lacked memory or time: it is tried again
    return report


def _reused(report: BenchReport, bundle: Bundle) -> str:
    """What to say of kept timings; those that break a rule stay, and how to repeat them is told."""
    said = "bench: reused, no file, option or version has changed"
    marked = [row for row in report.rows if row.marks]
    if not marked:
        return said
    return (
        f"{said}; {len(marked)} of {len(report.rows)} timings break a rule (first: "
        f"{marked[0].subject.id}, {marked[0].marks[0]}): remove {bundle.root / BENCH_FILE} to "
        "measure again"
    )
