"""Time a bundle: every usable backend at each batch size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vgg_deploy import stored
from vgg_deploy.bench.cell import bench_cell
from vgg_deploy.bench.figures import FIGURES, gate_error, percentile_for
from vgg_deploy.bench.limits import ceilings
from vgg_deploy.bench.measure import CALLS_SHARE, MeasureOptions, Tick
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import capture, now
from vgg_deploy.errors import (
    BackendNotAvailable,
    DigestMismatch,
    MeasurementNotValid,
    RefusedInput,
    ResourceLimit,
    VggDeployError,
)
from vgg_deploy.gates import Gate
from vgg_deploy.pipeline.benchinput import make_input, not_taken
from vgg_deploy.pipeline.cells import Cell, Selection, plan, results_key, without_cuda_graphs
from vgg_deploy.pipeline.profiles import profiles
from vgg_deploy.pipeline.usual import begin_usual
from vgg_deploy.pipeline.verified import as_shown, own_marks, verdicts
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.results import (
    BENCH_FILE,
    SCHEMA_VERSION,
    BenchReport,
    Ceiling,
    Timing,
)

USUAL = (1, 8)  # batch sizes
_LONGER = 1.1  # so much more than a step was told to take is told anew
BENCH_FIGURES = tuple(FIGURES)  # what --fail-if knows
FACTORY = "vgg_deploy.backends:get_backend"
FACTORY_WITHOUT_GRAPH = "vgg_deploy.backends:get_without_graph"
CLOCK = (
    "CPU: host clock (perf_counter_ns) around run and sync; GPU: CUDA events on the session's "
    "stream, idle before each run, so launching counts; input resident, output not read"
)


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is timed, and for how long."""

    selection: Selection = field(default_factory=Selection)
    batches: tuple[int, ...] = ()  # empty: those of ``USUAL`` that a file takes
    seconds: float = 3.0
    percentile: int = 90
    ceilings: bool = True  # also measure what the machine can do
    layers: bool = True  # also profile the ONNX files layer by layer
    cuda_graph: bool = True  # where a backend can: one launch for all kernels of a run
    gates: tuple[Gate, ...] = ()

    def __post_init__(self) -> None:
        self.measure_options()  # refuses what cannot be measured

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes that are timed where a file takes them."""
        return self.batches or USUAL

    def measure_options(self) -> MeasureOptions:
        """The timing loop's part of these options."""
        percentile = percentile_for(self.gates, self.percentile)
        return MeasureOptions(min_seconds=self.seconds, percentile=percentile)


def bench_bundle(
    bundle: Bundle,
    options: BenchOptions,
    watch: Watcher | None = None,
    *,
    reuse: bool = False,
    keeping: stored.Keeping | None = None,
) -> BenchReport:
    """Time every planned cell and store the report in the bundle.

    What verify has not passed, by digest, is timed but marked in what is returned; the stored
    report is without such marks, for verify may pass it later. With ``reuse`` a stored report of
    the same files, options and versions is returned, unless one of its cells failed.
    ``keeping`` says whether and how patiently it is stored.
    """
    watch = watch or Silent()
    keeping = keeping or stored.Keeping()
    cells = plan(bundle, options.selection)
    if not options.cuda_graph:
        cells = tuple(map(without_cuda_graphs, cells))
    bundle.check()
    verdicts(bundle, cells)  # refuses a file that is not the one that was verified
    key = results_key(cells, options, {})
    if reuse and (earlier := _earlier(bundle, key)):
        watch.say(_reused(earlier, bundle))
        return as_shown(bundle.root, earlier)
    keeping.check(bundle.root / BENCH_FILE)
    rows: list[Timing] = []
    for cell in cells:
        rows += _rows(cell, bundle, options, watch)
    report = BenchReport(
        schema_version=SCHEMA_VERSION,
        made_at=now(),
        environment=capture(),
        key=key,
        clock=CLOCK,
        options=_told(options),
        rows=tuple(rows),
        ceilings=_ceilings(rows, watch) if options.ceilings else (),
        layers=profiles(bundle, cells, min(options.sizes), watch) if options.layers else (),
    )
    tried = any(row.status != "skipped" for row in rows)
    if not keeping.save(bundle.root / BENCH_FILE, report, found=tried):
        watch.say(f"bench: nothing was timed, so {BENCH_FILE} stays as it was")
    return as_shown(bundle.root, report)


def bench_error(report: BenchReport, gates: tuple[Gate, ...] = ()) -> VggDeployError | None:
    """The error a report stands for: a cell that broke, nothing timed at all, or a gate."""
    failed = [row for row in report.rows if row.status == "failed"]
    if failed:
        first = failed[0]
        tried = sum(row.status != "skipped" for row in report.rows)
        if all(row.ran_out for row in failed):
            return ResourceLimit(
                f"{len(failed)} of {tried} cells ran out of disk or memory; first: "
                f"{first.subject.id} at batch {first.batch}: {first.reason}",
                "free some (TMPDIR's disk, too), or use a smaller batch",
            )
        return MeasurementNotValid(
            f"{len(failed)} of {tried} cells failed; first: {first.subject.id} at "
            f"batch {first.batch}: {first.reason}",
            "see the table; verify the bundle, then try the failed backend alone",
        )
    if not any(row.status == "measured" for row in report.rows):
        sized = [row for row in report.rows if row.batch]
        return BackendNotAvailable(
            "no backend could be timed" + (f"; {sized[0].reason}" if sized else ""),
            "see what is missing: vgg-deploy doctor",
        )
    return gate_error(report, gates)


def _rows(cell: Cell, bundle: Bundle, options: BenchOptions, watch: Watcher) -> tuple[Timing, ...]:
    if cell.artifact is None or cell.missing:
        return (Timing(subject=cell.subject, batch=0, status="skipped", reason=cell.reason),)
    reasons = {size: not_taken(cell.artifact, size) for size in options.sizes}
    if options.batches:
        reasons = dict.fromkeys(reasons, "")  # asked for: what it does not take is an error
    with watch.undisturbed():
        rows = bench_cell(
            cell.backend,
            cell.artifact,
            bundle.root,
            cell.subject,
            [size for size, reason in reasons.items() if not reason],
            lambda size: make_input(bundle, size, cell.artifact),
            options.measure_options(),
            factory=FACTORY if options.cuda_graph else FACTORY_WITHOUT_GRAPH,
            begin=lambda size: _watched(watch, f"bench {cell.subject.id}, batch {size}", options),
        )
    skipped = [
        Timing(subject=cell.subject, batch=size, status="skipped", reason=reason)
        for size, reason in reasons.items()
        if reason
    ]
    rows = tuple(sorted((*rows, *skipped), key=lambda row: row.batch))
    watch.say(f"bench: {cell.subject.id} {', '.join(map(_in_short, rows))}")
    return rows


def _in_short(row: Timing) -> str:
    """The status, and what is missing of a row that was measured."""
    return f"measured ({row.reason})" if row.status == "measured" and row.reason else row.status


def _told(options: BenchOptions) -> dict[str, str]:
    """All that was asked for, named as on the command line."""
    chosen = options.selection
    told = {
        "backend": ", ".join(chosen.backends),
        "format": ", ".join(chosen.formats),
        "precision": ", ".join(chosen.precisions),
        "batch": ", ".join(map(str, options.batches)) or "usual",
        "seconds": f"{options.seconds:g}",
        "percentile": str(options.percentile),
        "limits": "on" if options.ceilings or options.layers else "off",
        "cuda_graph": "" if options.cuda_graph else "off",
        "fail-if": ", ".join(gate.text for gate in options.gates),
    }
    return {name: text for name, text in told.items() if text}


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


def _watched(watch: Watcher, what: str, options: BenchOptions) -> Tick:
    """Begin a step of known length, in tenths of seconds; what is returned moves it on.

    How long a slow cell takes is known after its first run: then the step begins anew.
    """
    watch.begin(what, total := round(10 * options.seconds * (1 + CALLS_SHARE)))
    done, shown = 0.0, 0

    def tick(seconds: float, left: float) -> None:
        nonlocal total, done, shown
        done += seconds
        if (known := round(10 * (done + left))) > _LONGER * total:
            watch.begin(what, total := known)
            shown = 0
        watch.advance(step := min(round(10 * done), total) - shown)
        shown += step

    return tick


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
    marked = [row for row in report.rows if own_marks(row)]
    if not marked:
        return said
    return (
        f"{said}; {len(marked)} of {len(report.rows)} timings break a rule (first: "
        f"{marked[0].subject.id}, {own_marks(marked[0])[0]}): remove {bundle.root / BENCH_FILE} to "
        "measure again"
    )
