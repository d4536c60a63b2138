"""Compare backends of a bundle with each other: in turns, on the same input, like with like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path

from vgg_deploy import stored
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Array, Described
from vgg_deploy.bench.clock import stopwatch_for
from vgg_deploy.bench.contest import Contender, ContestOptions, contest_in_rounds
from vgg_deploy.bench.like import Traits, unlike
from vgg_deploy.bench.measure import Instruments
from vgg_deploy.bench.nvml import probe_for
from vgg_deploy.bench.paired import ratios
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import capture, now
from vgg_deploy.errors import RefusedInput, UsageError
from vgg_deploy.pipeline.bench import CLOCK
from vgg_deploy.pipeline.benchinput import make_input
from vgg_deploy.pipeline.cells import Cell, Selection, main_format, plan, results_key
from vgg_deploy.pipeline.verified import mark_of, verdicts
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.results import COMPARE_FILE, SCHEMA_VERSION, BenchReport, Contest


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Who is compared, at which batch sizes, and for how long."""

    names: tuple[str, ...]  # backend, or backend:file as the tables show it; the first is 1×
    batches: tuple[int, ...] = (1,)
    blocks: int = 40
    across_precisions: bool = False  # compare files of other precisions, too

    def __post_init__(self) -> None:
        self.contest_options()  # refuses what gives no interval
        if len(self.names) < 2:
            raise UsageError(
                f"only {self.names[0] if self.names else 'nothing'} to compare",
                "name at least two, for example --compare ort-cpu --compare openvino",
            )

    def contest_options(self) -> ContestOptions:
        """The contest's part of these options."""
        return ContestOptions(blocks=self.blocks)


def compare_bundle(
    bundle: Bundle,
    options: CompareOptions,
    watch: Watcher | None = None,
    *,
    keeping: stored.Keeping | None = None,
) -> BenchReport:
    """One contest per batch size, stored in the bundle as ``keeping`` says.

    Raises ``UsageError`` for a name that fits no file or several, ``RefusedInput`` for contenders
    that differ in device, clock, TF32 mode or transfers, or, unless that is what was asked for, in
    precision.
    """
    watch = watch or Silent()
    keeping = keeping or stored.Keeping()
    cells = [_cell(bundle, name) for name in options.names]
    _refuse_unlike([_planned(cell) for cell in cells], options.names, options)
    bundle.check()
    found = verdicts(bundle, cells)
    keeping.check(bundle.root / COMPARE_FILE)
    marks = tuple(dict.fromkeys(chain.from_iterable(mark_of(cell, found) for cell in cells)))
    contests = []
    for batch in options.batches:
        watch.begin(f"compare at batch {batch}", options.blocks, "blocks")
        one = _fought(bundle, cells, batch, options, watch)
        contests.append(replace(one, marks=(*marks, *one.marks)))
    report = BenchReport(
        schema_version=SCHEMA_VERSION,
        made_at=now(),
        environment=capture(),
        key=results_key(cells, options, {}),
        clock=CLOCK,
        options=_asked(options),
        rows=(),
        contests=tuple(contests),
    )
    keeping.save(bundle.root / COMPARE_FILE, report)
    return report


def _asked(options: CompareOptions) -> dict[str, str]:
    asked = {"blocks": str(options.blocks)}
    return asked | ({"across_precisions": "on"} if options.across_precisions else {})


def told(report: BenchReport, root: Path) -> dict[str, object]:
    """The report with its ratios worked out, for those who do not want to do it themselves."""
    found = [
        {"batch": one.batch, "names": [s.id for s in one.subjects],
         "precisions": [s.precision for s in one.subjects], "marks": one.marks,
         "ratios": [{**asdict(r), "says": r.word} for r in ratios(one)]}
        for one in report.contests
    ]  # fmt: skip
    return {"comparisons": found, "report": stored.document(report, root)}


def _cell(bundle: Bundle, name: str) -> Cell:
    """The cell that ``ort-cpu:model.int8.onnx`` names; without a file, the backend's plain one."""
    backend, _, file = name.partition(":")
    get_backend(backend)
    cells = plan(bundle, Selection(backends=(backend,)))
    fitting = [cell for cell in cells if not file or cell.subject.artifact == file]
    if not file and len(fitting) > 1:
        fitting = [cell for cell in fitting if _is_plain(cell)] or fitting
    if len(fitting) == 1:
        return fitting[0]
    known = ", ".join(cell.subject.id for cell in cells)
    what = "fits several files" if fitting else "fits no file of the bundle"
    raise UsageError(f"{name} {what}", f"use one of: {known}")


def _is_plain(cell: Cell) -> bool:
    """Whether it is the fp32 file of the format that the backend is there for."""
    formats = cell.backend.formats
    return cell.subject.precision == "fp32" and cell.subject.format == main_format(formats)


def _fought(
    bundle: Bundle, cells: Sequence[Cell], batch: int, options: CompareOptions, watch: Watcher
) -> Contest:
    given = _shared_input(bundle, cells, batch)
    probe = probe_for(cells[0].subject.device)  # before anything of ours runs there
    with watch.undisturbed():
        return contest_in_rounds(
            lambda order: _opened(
                bundle, [cells[i] for i in order], [options.names[i] for i in order], options
            ),
            len(cells),
            given,
            options.contest_options(),
            done=watch.advance,
            using=Instruments(probe=probe),
        )


@contextmanager
def _opened(
    bundle: Bundle, cells: Sequence[Cell], names: Sequence[str], options: CompareOptions
) -> Iterator[Sequence[Contender]]:
    """All sessions at once, each with its clock; refused where clocks or modes are unlike."""
    with ExitStack() as stack:
        contenders = []
        traits = []
        for cell in cells:
            assert cell.artifact is not None  # noqa: S101 - plan raises for what cannot run
            session = stack.enter_context(cell.backend.open(cell.artifact, bundle.root))
            stopwatch = stopwatch_for(session, cell.subject.device)
            modes = session.modes if isinstance(session, Described) else {}
            contenders.append(Contender(cell.subject, session, stopwatch))
            traits.append(replace(_planned(cell), clock=stopwatch.name, modes=modes))
        _refuse_unlike(traits, names, options)
        yield contenders


def _shared_input(bundle: Bundle, cells: Sequence[Cell], batch: int) -> Array:
    if len({cell.artifact.input.dtype for cell in cells if cell.artifact}) > 1:
        raise RefusedInput(
            "an embedded file takes pixels, the others what preprocessing made of them",
            "compare embedded files with each other",
        )
    return make_input(bundle, batch, cells[0].artifact)


def _planned(cell: Cell) -> Traits:
    return Traits(precision=cell.subject.precision, device=cell.subject.device)


def _refuse_unlike(traits: Sequence[Traits], names: Sequence[str], options: CompareOptions) -> None:
    across = options.across_precisions
    for one, name in zip(traits[1:], names[1:], strict=True):
        if reason := unlike(traits[0], one, across_precisions=across):
            remedy = "compare like with like; bench times each on its own"
            if not unlike(traits[0], one, across_precisions=True):
                remedy = "if the precisions are what you compare, add --across-precisions"
            raise RefusedInput(f"{names[0]} and {name} cannot be compared: {reason}", remedy)
