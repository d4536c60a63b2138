"""Verify a bundle: every usable backend against the float64 reference."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vgg_deploy import stored
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Session
from vgg_deploy.backends.pytorch import reference
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import capture, now
from vgg_deploy.errors import (
    BackendNotAvailable,
    DigestMismatch,
    NotEquivalent,
    RefusedInput,
    UsageError,
    VggDeployError,
)
from vgg_deploy.pipeline.cells import Cell, Selection, plan, results_key
from vgg_deploy.pipeline.images import Images, images_for
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.results import (
    SCHEMA_VERSION,
    VERIFY_FILE,
    Accuracy,
    Comparison,
    Figure,
    VerifyReport,
)
from vgg_deploy.verify.accuracy import count_correct
from vgg_deploy.verify.inputs import Inputs, make_inputs
from vgg_deploy.verify.tolerance import TOLERANCES, judge_accuracy
from vgg_deploy.verify.verdict import (
    Outputs,
    judge_outputs,
    refuse_vacuous,
    run_batches,
)

REFERENCE = "torch float64 on CPU"


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

    def __post_init__(self) -> None:
        if self.images < 1 or not self.batches or min(self.batches) < 1:
            raise UsageError(
                f"{self.images} images in batches of {list(self.batches)}",
                "use at least one image and batches of at least 1",
            )


@dataclass(frozen=True)
class _Run:
    """What every cell of one run shares: the bundle, the images, the yardstick."""

    bundle: Bundle
    options: VerifyOptions
    images: Images
    inputs: Inputs
    reference: NDArray[np.float64]
    eager: Outputs
    eager_correct: int | None  # None: no accuracy
    watch: Watcher


def verify_bundle(
    bundle: Bundle,
    options: VerifyOptions,
    watch: Watcher | None = None,
    *,
    reuse: bool = False,
) -> VerifyReport:
    """Compare every planned cell with the reference and store the report in the bundle.

    With ``reuse`` a stored report of the same files, options and versions is returned.
    Raises ``DigestMismatch`` before anything is run when a file was changed.
    """
    watch = watch or Silent()
    cells = plan(bundle, options.selection)
    bundle.check()
    images = images_for(bundle.card, options.data, options.data_dir)
    key = results_key(cells, options, {"images": images.dataset.source})
    if reuse and (earlier := _earlier(bundle, key)):
        watch.say("verify: reused, no file, option or version has changed")
        return earlier
    run = _prepare(bundle, options, images, watch)
    rows = tuple(_row(cell, run) for cell in cells)
    report = VerifyReport(
        schema_version=SCHEMA_VERSION,
        made_at=now(),
        environment=capture(),
        key=key,
        inputs=run.inputs.counts,
        image_source=images.source,
        batches=options.batches,
        reference=REFERENCE,
        rows=rows,
    )
    stored.save(bundle.root / VERIFY_FILE, report)
    return report


def verdict_error(report: VerifyReport) -> VggDeployError | None:
    """The error a report stands for: a cell that differs or broke, or nothing verified at all."""
    bad = [row for row in report.rows if row.verdict in ("different", "failed")]
    if bad:
        names = ", ".join(row.subject.id for row in bad)
        return NotEquivalent(
            f"{len(bad)} of {len(report.rows)} not equivalent: {names}",
            f"see the reasons in the table; first: {bad[0].reason}",
        )
    if not any(row.verdict == "equivalent" for row in report.rows):
        return BackendNotAvailable(
            "no backend could be verified", "see what is missing: vgg-deploy doctor"
        )
    return None


def _earlier(bundle: Bundle, key: str) -> VerifyReport | None:
    path = bundle.root / VERIFY_FILE
    try:
        report = stored.load(VerifyReport, path) if path.exists() else None
    except (RefusedInput, DigestMismatch):
        return None  # unreadable or edited results are measured again
    return report if report and report.key == key else None


def _prepare(bundle: Bundle, options: VerifyOptions, images: Images, watch: Watcher) -> _Run:
    torch_backend = get_backend("torch")
    if missing := torch_backend.probe():
        raise BackendNotAvailable(
            f"the float64 reference needs torch: {missing.reason}", missing.remedy
        )
    inputs = make_inputs(
        images.dataset.test.images,
        images.source,
        bundle.card.preprocessing,
        count=options.images,
        seed=options.seed,
    )
    watch.begin(f"float64 reference of {len(inputs.batch)} images")
    exact = reference(bundle.path(bundle.checkpoint), inputs.batch)
    refuse_vacuous(inputs, exact, TOLERANCES["fp32"])
    if options.accuracy and images.no_accuracy:
        watch.say(f"verify: accuracy not compared, {images.no_accuracy}")
    with torch_backend.open(bundle.checkpoint, bundle.root) as session:
        eager = run_batches(session, inputs, options.batches)
        correct = None
        if options.accuracy and not images.no_accuracy:
            correct = _count(session, images, bundle, watch)
    return _Run(bundle, options, images, inputs, exact, eager, correct, watch)


def _row(cell: Cell, run: _Run) -> Comparison:
    if cell.artifact is None or cell.missing:
        return Comparison(subject=cell.subject, verdict="skipped", reason=cell.reason)
    run.watch.begin(f"verify {cell.subject.id}")
    start = time.perf_counter()
    try:
        with cell.backend.open(cell.artifact, run.bundle.root) as session:
            row = _compare(cell, session, run)
    except VggDeployError as error:
        row = Comparison(subject=cell.subject, verdict="failed", reason=error.cause)
    except Exception as error:  # a backend may break in any way: that is a row, not the end
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = f"{type(error).__name__}: {text}"
        row = Comparison(subject=cell.subject, verdict="failed", reason=reason)
    row = replace(row, seconds=round(time.perf_counter() - start, 3))
    run.watch.say(f"{row.verdict}: {row.subject.id}" + (f", {row.reason}" if row.reason else ""))
    return row


def _compare(cell: Cell, session: Session, run: _Run) -> Comparison:
    tolerance = TOLERANCES[cell.subject.precision]
    outputs = run_batches(session, run.inputs, run.options.batches)
    found = judge_outputs(outputs, run.eager, run.reference, run.inputs, tolerance)
    row = Comparison(
        subject=cell.subject, verdict=found.verdict, reason=found.reason, figures=found.figures
    )
    if run.eager_correct is None or found.verdict != "equivalent":
        return row
    total = len(run.images.dataset.test)
    correct = _count(session, run.images, run.bundle, run.watch)
    drop = judge_accuracy(100 * (run.eager_correct - correct) / total, tolerance)
    return replace(
        row,
        verdict="equivalent" if drop.ok else "different",
        reason="" if drop.ok else _drop_reason(drop),
        figures=(*found.figures, drop),
        accuracy=Accuracy(
            dataset=run.images.dataset.name, split="test", correct=correct, total=total
        ),
    )


def _drop_reason(drop: Figure) -> str:
    return f"top-1 accuracy drops by {drop.value:.2f} points, more than {drop.limit:.2f}"


def _count(session: Session, images: Images, bundle: Bundle, watch: Watcher) -> int:
    test = images.dataset.test
    watch.begin("accuracy", len(test), "images")
    return count_correct(
        session, test.images, test.labels, bundle.card.preprocessing, watch.advance
    )
