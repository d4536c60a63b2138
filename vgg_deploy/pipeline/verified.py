"""What verify has said of the files that are about to be timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vgg_deploy import stored
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import DigestMismatch, RefusedInput
from vgg_deploy.pipeline.cells import Cell
from vgg_deploy.results import (
    VERIFY_FILE,
    BenchReport,
    Comparison,
    Subject,
    Timing,
    VerifyReport,
)

NOT_VERIFIED = "not verified: run vgg-deploy verify first"
_VERDICT = "verify: "
Verdicts = Mapping[tuple[str, str], str]  # backend and digest: the mark, empty if it passed


def verdicts(bundle: Bundle, cells: Sequence[Cell]) -> Verdicts:
    """What the stored verify report says of each backend and digest it judged.

    Raises ``DigestMismatch`` where a planned file is not the one of that name that was verified.
    """
    report = _report(bundle.root)
    rows = report.rows if report else ()
    known = {row.subject.artifact: row.subject.sha256 for row in rows}
    for cell in cells:
        path = cell.subject.artifact
        if cell.artifact and known.get(path, cell.artifact.sha256) != cell.artifact.sha256:
            raise DigestMismatch(
                f"{bundle.root / path} is not the file that was verified",
                f"judge the new one first: vgg-deploy verify {bundle.root}",
            )
    return _said(report)


def mark_of(cell: Cell, found: Verdicts) -> tuple[str, ...]:
    """The mark of a cell that verify has not passed; none for one that it has."""
    return _of_subject(cell.subject, found)


def as_shown(root: Path, report: BenchReport) -> BenchReport:
    """Timings with the marks of verify's current verdicts, which are not stored with them."""
    found = _said(_report(root))
    rows = tuple(
        replace(row, marks=(*_of_subject(row.subject, found), *own_marks(row)))
        if row.status == "measured"
        else row
        for row in report.rows
    )
    return replace(report, rows=rows)


def own_marks(row: Timing) -> tuple[str, ...]:
    """The rules that the timing itself breaks; older results also hold what verify had said."""
    return tuple(m for m in row.marks if m != NOT_VERIFIED and not m.startswith(_VERDICT))


def _of_subject(subject: Subject, found: Verdicts) -> tuple[str, ...]:
    mark = found.get((subject.backend, subject.sha256), NOT_VERIFIED)
    return (mark,) if mark else ()


def _said(report: VerifyReport | None) -> Verdicts:
    rows = report.rows if report else ()
    return {(r.subject.backend, r.subject.sha256): _mark(r) for r in rows}


def _mark(row: Comparison) -> str:
    if row.verdict == "equivalent":
        return ""
    return NOT_VERIFIED if row.verdict == "skipped" else f"{_VERDICT}{row.verdict}, {row.reason}"


def _report(root: Path) -> VerifyReport | None:
    """The stored report; None without one, or for one of another version."""
    path = root / VERIFY_FILE
    try:
        return stored.load(VerifyReport, path) if path.exists() else None
    except RefusedInput:
        return None
