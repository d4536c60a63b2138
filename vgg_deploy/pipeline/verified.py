"""What verify has said of the files that are about to be timed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vgg_deploy import stored
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import DigestMismatch, RefusedInput
from vgg_deploy.pipeline.cells import Cell
from vgg_deploy.results import VERIFY_FILE, Comparison, VerifyReport

NOT_VERIFIED = "not verified: run vgg-deploy verify first"
Verdicts = Mapping[tuple[str, str], str]  # backend and digest: the mark, empty if it passed


def verdicts(bundle: Bundle, cells: Sequence[Cell]) -> Verdicts:
    """What the stored verify report says of each backend and digest it judged.

    Raises ``DigestMismatch`` where a planned file is not the one of that name that was verified.
    """
    report = _report(bundle)
    rows = report.rows if report else ()
    known = {row.subject.artifact: row.subject.sha256 for row in rows}
    for cell in cells:
        path = cell.subject.artifact
        if cell.artifact and known.get(path, cell.artifact.sha256) != cell.artifact.sha256:
            raise DigestMismatch(
                f"{bundle.root / path} is not the file that was verified",
                f"judge the new one first: vgg-deploy verify {bundle.root}",
            )
    return {(r.subject.backend, r.subject.sha256): _mark(r) for r in rows}


def mark_of(cell: Cell, found: Verdicts) -> tuple[str, ...]:
    """The mark of a cell that verify has not passed; none for one that it has."""
    digest = cell.artifact.sha256 if cell.artifact else ""
    mark = found.get((cell.backend.name, digest), NOT_VERIFIED)
    return (mark,) if mark else ()


def _mark(row: Comparison) -> str:
    if row.verdict == "equivalent":
        return ""
    return NOT_VERIFIED if row.verdict == "skipped" else f"verify: {row.verdict}, {row.reason}"


def _report(bundle: Bundle) -> VerifyReport | None:
    """The stored report; None without one, or for one of another version."""
    path = bundle.root / VERIFY_FILE
    try:
        return stored.load(VerifyReport, path) if path.exists() else None
    except RefusedInput:
        return None
