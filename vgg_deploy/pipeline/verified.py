"""What verify has said of the files that are about to be timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from vgg_deploy import stored
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import capture
from vgg_deploy.errors import DigestMismatch, RefusedInput
from vgg_deploy.files import word
from vgg_deploy.pipeline.cells import Cell
from vgg_deploy.report import standing
from vgg_deploy.report.standing import NOT_VERIFIED, verdict_mark, with_verdicts
from vgg_deploy.results import VERIFY_FILE, BenchReport, Timing, VerifyReport

__all__ = ["NOT_VERIFIED", "Verdicts", "as_shown", "mark_of", "own_marks", "verdicts"]

Verdicts = Mapping[tuple[str, str], str]  # backend and digest: the mark, empty if it passed


def verdicts(bundle: Bundle, cells: Sequence[Cell]) -> Verdicts:
    """What the stored verify report says of each backend and digest it judged.

    A verdict of other versions or another machine than these is a mark, too.
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
                f"judge the new one first: vgg-deploy verify {word(bundle.root)}",
            )
    subjects = [row.subject for row in rows]
    return {(s.backend, s.sha256): verdict_mark(s, report, capture()) for s in subjects}


def mark_of(cell: Cell, found: Verdicts) -> tuple[str, ...]:
    """The mark of a cell that verify has not passed; none for one that it has."""
    digest = cell.artifact.sha256 if cell.artifact else ""
    mark = found.get((cell.backend.name, digest), NOT_VERIFIED)
    return (mark,) if mark else ()


def as_shown(root: Path, report: BenchReport) -> BenchReport:
    """Timings with the marks of verify's current verdicts, which are not stored with them."""
    return with_verdicts(report, _report(root))


def own_marks(row: Timing) -> tuple[str, ...]:
    """The rules that the timing itself breaks; older results also hold what verify had said."""
    return standing.own_marks(row.marks)


def _report(root: Path) -> VerifyReport | None:
    """The stored report; None without one, or for one of another version."""
    path = root / VERIFY_FILE
    try:
        return stored.load(VerifyReport, path) if path.exists() else None
    except RefusedInput:
        return None
