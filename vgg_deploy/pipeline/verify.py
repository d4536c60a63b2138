"""Verify a bundle: every usable backend against the float64 reference."""

from __future__ import annotations

from collections.abc import Sequence

from vgg_deploy import stored
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import capture, now
from vgg_deploy.errors import (
    BackendNotAvailable,
    DigestMismatch,
    NotEquivalent,
    RefusedInput,
    ResourceLimit,
    StaleEngine,
    VggDeployError,
)
from vgg_deploy.files import word
from vgg_deploy.gates import Gate, parse_gates
from vgg_deploy.pipeline.cells import Cell, plan, results_key
from vgg_deploy.pipeline.images import Images, images_for, seen_by
from vgg_deploy.pipeline.unseen import without_seen
from vgg_deploy.pipeline.verify_cells import VerifyOptions, judge_cells, prepare
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.results import (
    SCHEMA_VERSION,
    VERIFY_FILE,
    Comparison,
    TrippedGate,
    VerifyReport,
)
from vgg_deploy.verify.accuracy import TOP
from vgg_deploy.verify.tolerance import (
    FIGURES,
    NEED_EAGER,
    NEED_LABELS,
    OF_TOP,
    SIZES_RATIO,
    TOLERANCES,
    as_numbers,
)

__all__ = ["VerifyOptions", "gates_of", "tripped_gates", "verdict_error", "verify_bundle"]

REFERENCE = "torch float64 on CPU"


def gates_of(texts: Sequence[str] | None) -> tuple[Gate, ...]:
    """Conditions from a command line; ``UsageError`` for one that does not parse."""
    return parse_gates(texts, FIGURES)


def verify_bundle(
    bundle: Bundle,
    options: VerifyOptions,
    watch: Watcher | None = None,
    *,
    reuse: bool = False,
    keeping: stored.Keeping | None = None,
) -> VerifyReport:
    """Compare every planned cell with the reference and store the report in the bundle.

    With ``reuse`` a stored report of the same files, options and versions is returned, unless one
    of its cells failed. ``keeping`` says whether and how patiently it is stored.
    Raises, before anything is run, ``DigestMismatch`` when a file was changed, ``StaleEngine``
    when one was made from a file that is gone, and ``RefusedInput`` for a gate that nothing here
    can measure.
    """
    watch = watch or Silent()
    keeping = keeping or stored.Keeping()
    cells = plan(bundle, options.selection)
    bundle.check()
    _refuse_orphans(bundle, cells)
    images = images_for(bundle.card, options.data, options.data_dir, seen_by(bundle))
    images = without_seen(images, bundle)
    _refuse_gates(options, images, cells, bundle.card.spec.classes)
    tolerances = repr((TOLERANCES, SIZES_RATIO))
    judged_by = {"images": images.dataset.fingerprint(), "tolerances": tolerances}
    if images.unseen is not None:
        origins = images.dataset.test.origins
        judged_by["tested"] = " ".join(origins[index].sha256 for index in images.tested)
    key = results_key(cells, options, judged_by)
    if reuse and (earlier := _earlier(bundle, key)):
        watch.say("verify: reused, no file, option or version has changed")
        return earlier
    keeping.check(bundle.root / VERIFY_FILE)
    run = prepare(bundle, cells, options, images, watch, keep=keeping.wanted)
    rows = judge_cells(cells, run)
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
        tolerances={p: as_numbers(options.tolerance(p)) for p in run.yard.eager},
        gates=tuple(gate.text for gate in options.gates),
        tripped=tripped_gates(rows, options.gates),
        options=_asked(options, images),
    )
    judged = any(row.verdict != "skipped" for row in rows)
    if not keeping.save(bundle.root / VERIFY_FILE, report, found=judged):
        watch.say(f"verify: nothing was judged, so {VERIFY_FILE} stays as it was")
    return report


def _asked(options: VerifyOptions, images: Images) -> dict[str, str]:
    """The options that matter to a reader of the verdict, named as on the command line."""
    drop = options.max_top1_drop
    asked = {
        "images": str(options.images),
        "seed": str(options.seed),
        "data": images.dataset.name if options.data else "",
        "data_dir": "given" if options.data_dir else "",  # a path is this machine's own
        "accuracy": "" if options.accuracy else "off",
        "max_top1_drop": "" if drop is None else f"{drop:g}",
        "backend": ", ".join(options.selection.backends),
        "format": ", ".join(options.selection.formats),
        "precision": ", ".join(options.selection.precisions),
        "locate": "on" if options.locate else "",
    }
    return {name: text for name, text in asked.items() if text}


def verdict_error(report: VerifyReport) -> VggDeployError | None:
    """The error a report stands for.

    A cell that differs or broke, nothing verified at all, or a gate that tripped.
    """
    bad = [row for row in report.rows if row.verdict in ("different", "failed")]
    if bad:
        names = ", ".join(row.subject.id for row in bad)
        judged = sum(row.verdict != "skipped" for row in report.rows)
        if all(row.ran_out for row in bad):
            return ResourceLimit(
                f"{len(bad)} of {judged} could not be judged: {names}",
                f"free disk space (TMPDIR's, too) or memory; first: {bad[0].reason}",
            )
        return NotEquivalent(
            f"{len(bad)} of {judged} not equivalent: {names}",
            f"see the reasons in the table; first: {bad[0].reason}",
        )
    if not any(row.verdict == "equivalent" for row in report.rows):
        return BackendNotAvailable(
            "no backend could be verified", "see what is missing: vgg-deploy doctor"
        )
    if report.tripped:
        first = report.tripped[0]
        value = "not measured" if first.value is None else f"{first.value:.4g}"
        return NotEquivalent(
            f"{len(report.tripped)} conditions of --fail-if hold; first: {first.gate} for "
            f"{first.subject}, which has {value}",
            "all files are within their own limits; loosen the condition or improve the file",
        )
    return None


def _refuse_orphans(bundle: Bundle, cells: Sequence[Cell]) -> None:
    known = {artifact.sha256 for artifact in bundle.artifacts}
    for cell in cells:
        artifact = cell.artifact
        if artifact is not None and artifact.parent and artifact.parent not in known:
            raise StaleEngine(
                f"{artifact.path} was made from a file that this bundle no longer holds "
                f"({artifact.parent[:12]}…)",
                f"make it again from the present checkpoint: vgg-deploy export {word(bundle.root)}",
            )


def _refuse_gates(
    options: VerifyOptions, images: Images, cells: Sequence[Cell], classes: int
) -> None:
    """A condition that cannot be measured must not pass in silence."""
    why = images.no_accuracy if options.accuracy else "--no-accuracy was given"
    runs = [cell.subject.precision for cell in cells if not cell.missing]
    kinds = dict.fromkeys(runs)
    eager = not kinds or any(not TOLERANCES[precision].by_accuracy for precision in kinds)
    for gate in options.gates:
        if gate.name in NEED_EAGER and not eager:
            raise RefusedInput(
                f"{gate.text} cannot be told: torch eager has no {' and no '.join(kinds)}",
                "use a condition on accuracy, or verify files of other precisions, too",
            )
        if gate.name in OF_TOP and classes <= TOP:
            raise RefusedInput(
                f"{gate.text} tells nothing: the model has {classes} classes, and its first {TOP} "
                "are all of them",
                "use a condition on top1_drop or top1_flips",
            )
        if gate.name in NEED_LABELS and why:
            raise RefusedInput(
                f"{gate.text} cannot be told: {why}",
                "verify with labelled images of its classes that it was not trained on",
            )


def tripped_gates(rows: Sequence[Comparison], gates: Sequence[Gate]) -> tuple[TrippedGate, ...]:
    """The conditions that hold, or that nothing was measured for; by row."""
    found = []
    for row in rows:
        if row.verdict in ("skipped", "failed"):
            continue  # nothing was measured; failed rows fail by themselves
        applicable = not TOLERANCES[row.subject.precision].by_accuracy
        for gate in gates:
            if gate.name in NEED_EAGER and not applicable:
                continue
            figure = row.figure(gate.name)
            value = figure.value if figure else None
            if gate.trips(value):
                found.append(TrippedGate(gate=gate.text, subject=row.subject.id, value=value))
    return tuple(found)


def _earlier(bundle: Bundle, key: str) -> VerifyReport | None:
    path = bundle.root / VERIFY_FILE
    try:
        report = stored.load(VerifyReport, path) if path.exists() else None
    except (RefusedInput, DigestMismatch):
        return None  # unreadable or edited results are measured again
    if report is None or report.key != key or any(r.verdict == "failed" for r in report.rows):
        return None  # what failed may have lacked memory or a library: it is tried again
    return report
