"""Running and judging the cells of one verify: what all share, and one row for each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vgg_deploy.artifact import Artifact, Precision
from vgg_deploy.backends.base import Session
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import RefusedInput, UsageError, VggDeployError, ran_out
from vgg_deploy.export.described import require_described
from vgg_deploy.gates import Gate
from vgg_deploy.pipeline.cells import Cell, Selection, plan
from vgg_deploy.pipeline.chain import Ran, not_run, with_hops
from vgg_deploy.pipeline.images import Images, refuse_misnamed
from vgg_deploy.pipeline.locate import located
from vgg_deploy.pipeline.watch import Watcher
from vgg_deploy.pipeline.yardstick import Yardstick, yardstick
from vgg_deploy.results import Comparison
from vgg_deploy.verify.accuracy import accuracy_of, answers, refuse_untrained
from vgg_deploy.verify.inputs import Inputs, make_inputs, takes_one_size
from vgg_deploy.verify.runs import accuracy_batch, batch_sizes, images_to_run, run_calls
from vgg_deploy.verify.said import contradiction
from vgg_deploy.verify.tolerance import (
    TOLERANCES,
    Tolerance,
    accuracy_verdict,
    judge_accuracy,
    require_labels,
)
from vgg_deploy.verify.verdict import (
    Judgement,
    Resized,
    judge_calls,
    refuse_all_vacuous,
    refuse_vacuous,
)
from vgg_deploy.verify.worst import worst_image


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """What is verified, and with what."""

    selection: Selection = field(default_factory=Selection)
    images: int = 32  # real ones; noise and edges come on top
    batches: tuple[int, ...] = (1, 2, 8)
    seed: int = 0
    data: str | None = None
    data_dir: Path | None = None
    accuracy: bool = True
    max_top1_drop: float | None = None  # points; None: the precision's own budget
    gates: tuple[Gate, ...] = ()
    locate: bool = False

    def __post_init__(self) -> None:
        if self.images < 1 or not self.batches or min(self.batches) < 1:
            raise UsageError(
                f"{self.images} images in batches of {list(self.batches)}",
                "use at least one image and batches of at least 1",
            )
        if self.seed < 0:
            raise UsageError(f"seed {self.seed} is below 0", "use 0 or more")
        if self.max_top1_drop is not None and not 0 <= self.max_top1_drop <= 100:
            raise UsageError(
                f"a drop of {self.max_top1_drop:g} points", "give points of accuracy, 0 to 100"
            )

    def tolerance(self, precision: Precision) -> Tolerance:
        """The limits for a precision, with the budget that was asked for."""
        usual = TOLERANCES[precision]
        if self.max_top1_drop is None:
            return usual
        return replace(usual, top1_drop=self.max_top1_drop, asked=True)


@dataclass(frozen=True)
class Run:
    """What every cell of one run shares: the bundle, the images, the yardstick."""

    bundle: Bundle
    options: VerifyOptions
    images: Images
    inputs: Inputs
    yard: Yardstick
    watch: Watcher


def prepare(
    bundle: Bundle,
    cells: Sequence[Cell],
    options: VerifyOptions,
    images: Images,
    watch: Watcher,
    *,
    keep: bool = True,
) -> Run:
    """Make the inputs and the yardstick, and refuse those beside which nothing can be told.

    ``keep``: also store the yardstick for the next time.
    """
    require_described(bundle)
    resized = any(takes_one_size(cell.artifact.input) for cell in cells if cell.artifact)
    inputs = make_inputs(
        images.dataset.test.images,
        images.source,
        bundle.card.preprocessing,
        count=options.images,
        seed=options.seed,
        resized=resized,
        files=[origin.file for origin in images.dataset.test.origins],
    )
    accuracy = options.accuracy and not images.no_accuracy
    if options.accuracy and not accuracy:
        watch.say(f"verify: accuracy not compared, {images.no_accuracy}")
    told = (*filter(None, [images.remark]), *images.doubts) if accuracy else ()
    for remark in (*images.dataset.remarks, *told):
        watch.say(f"verify: {remark}")
    precisions: list[Precision] = ["fp32", *(c.subject.precision for c in cells if not c.missing)]
    yard = yardstick(
        bundle, inputs, images, precisions, watch, accuracy=accuracy, rounded=resized, keep=keep
    )
    if yard.answers:
        refuse_misnamed(images, yard.answers.first)
    refuse_all_vacuous(yard.reference, precisions[1:] or precisions)
    return Run(bundle, options, images, inputs, yard, watch)


def judge_cells(cells: Sequence[Cell], run: Run) -> tuple[Comparison, ...]:
    """One row per cell in their order, each with the hops that led to its file."""
    ran = [_ran(cell, run) if cell.artifact and not cell.missing else None for cell in cells]
    everything = [one for one in ran if one]
    for one in tuple(everything):
        parents = not_run(one.row, one.artifact, run.bundle, everything)
        found = [_some_cell(parent, run.bundle) for parent in parents]
        everything += [_ran(cell, run) for cell in found if cell]
    return tuple(
        _finished(one, everything, run)
        if one
        else Comparison(subject=cell.subject, verdict="skipped", reason=cell.reason)
        for cell, one in zip(cells, ran, strict=True)
    )


def _finished(one: Ran, everything: Sequence[Ran], run: Run) -> Comparison:
    """The row with what can only be said when all have run."""
    row = with_hops(one, everything, run.bundle, run.yard.reference)
    if run.options.locate and row.verdict == "different":
        row = located(row, one, run.bundle, run.inputs, run.watch)
    run.watch.say(f"{row.verdict}: {row.subject.id}" + (f", {row.reason}" if row.reason else ""))
    return row


def _some_cell(artifact: Artifact, bundle: Bundle) -> Cell | None:
    """Any way to run a file that was not asked for, to judge a hop."""
    cells = plan(bundle, Selection())
    return next((c for c in cells if c.artifact == artifact and not c.missing), None)


def _ran(cell: Cell, run: Run) -> Ran:
    """Run and judge a cell; a backend may break in any way: that is a row, not the end."""
    artifact = cell.artifact
    if artifact is None:
        raise ValueError("a cell without an artifact cannot run")
    start = time.perf_counter()
    found = Judgement(verdict="failed", reason="")
    row = Comparison(subject=cell.subject, verdict="failed", reason="")
    try:
        if said := contradiction(run.bundle.path(artifact), artifact.format, run.bundle.card):
            found = Judgement(verdict="different", reason=said)
            row = replace(row, verdict="different", reason=said)
        else:
            with cell.backend.open(artifact, run.bundle.root) as session:
                found = _judged(cell, artifact, session, run)
                row = _with_accuracy(_row(cell, found, run), artifact, session, run)
    except VggDeployError as error:
        row = replace(row, reason=error.cause, ran_out=ran_out(error))
    except Exception as error:
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        row = replace(row, reason=f"{type(error).__name__}: {text}", ran_out=ran_out(error))
    row = replace(row, seconds=round(time.perf_counter() - start, 3))
    return Ran(artifact, cell.backend, row, found.outputs)


def _judged(cell: Cell, artifact: Artifact, session: Session, run: Run) -> Judgement:
    precision = cell.subject.precision
    if said := run.yard.unusable.get(precision):
        raise RefusedInput(said, "use a precision with a wider range, such as bf16")
    refuse_vacuous(run.yard.reference, TOLERANCES[precision])
    sizes = batch_sizes(artifact, run.options.batches)
    total = images_to_run(run.inputs, artifact, sizes)
    run.watch.begin(f"verify {cell.subject.id}", total, "images")
    calls = run_calls(session, run.inputs, artifact, sizes, run.watch.advance)
    tolerance = run.options.tolerance(precision)
    resized = None
    if tolerance.by_accuracy and artifact.input.dtype == "uint8":
        resized = Resized(run.inputs.of_kind("real"), run.inputs.of_kind("sizes"))
    return judge_calls(
        calls,
        run.yard.reference,
        run.yard.eager[precision],
        run.inputs.names,
        tolerance,
        resized,
    )


def _row(cell: Cell, found: Judgement, run: Run) -> Comparison:
    worst = None
    if found.answer is not None and found.worst is not None:
        worst = worst_image(
            found.worst,
            run.inputs.names[found.worst],
            run.inputs.image(found.worst),
            found.answer,
            run.yard.reference,
            run.bundle.card.labels,
        )
    return Comparison(
        subject=cell.subject,
        verdict=found.verdict,
        reason=found.reason,
        figures=found.figures,
        worst=worst,
    )


def _with_accuracy(row: Comparison, artifact: Artifact, session: Session, run: Run) -> Comparison:
    """The row with accuracy on the whole test split, where it is needed or can be told."""
    yard, test = run.yard, run.images.dataset.test
    places, labels = run.images.tested, run.images.tested_labels
    eager = yard.rounded if takes_one_size(artifact.input) else yard.answers
    tolerance = run.options.tolerance(row.subject.precision)
    if row.verdict != "equivalent":
        return row
    why_not = run.images.no_accuracy or "--no-accuracy was given"
    require_labels(tolerance, len(labels) if eager else None, why_not)
    if eager is None:
        return row
    if tolerance.by_accuracy:
        refuse_untrained(eager, labels, tolerance.top1_drop)
    run.watch.begin(f"accuracy of {row.subject.id}", len(labels), "images")
    found = answers(
        session,
        test.images,
        test.labels,
        run.bundle.card.preprocessing,
        artifact.input,
        chosen=places,
        batch=accuracy_batch(artifact),
        on_batch=run.watch.advance,
    )
    accuracy = accuracy_of(
        found,
        eager,
        labels,
        run.bundle.card.spec.classes,
        run.images.dataset.name,
        split=run.images.tested_split,
        available=run.images.dataset.count,
    )
    verdict, reason = accuracy_verdict(accuracy, tolerance)
    return replace(
        row,
        verdict=verdict,
        reason=reason,
        figures=(*row.figures, *judge_accuracy(accuracy, tolerance)),
        accuracy=accuracy,
    )
