"""What verify has said of the files that are about to be timed."""

from __future__ import annotations

from collections.abc import Sequence

from vgg_deploy import stored
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import DigestMismatch, RefusedInput
from vgg_deploy.pipeline.cells import Cell
from vgg_deploy.results import VERIFY_FILE, VerifyReport

NOT_VERIFIED = "not verified: run vgg-deploy verify first"
Passed = frozenset[tuple[str, str]]  # backend and digest


def passed(bundle: Bundle, cells: Sequence[Cell]) -> Passed:
    """Backend and digest of what the stored verify report found equivalent.

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
    return frozenset(
        (r.subject.backend, r.subject.sha256) for r in rows if r.verdict == "equivalent"
    )


def mark_of(cell: Cell, found: Passed) -> tuple[str, ...]:
    """The mark of a cell that verify has not passed; none for one that it has."""
    digest = cell.artifact.sha256 if cell.artifact else ""
    return () if (cell.backend.name, digest) in found else (NOT_VERIFIED,)


def _report(bundle: Bundle) -> VerifyReport | None:
    """The stored report; None without one, or for one of another version."""
    path = bundle.root / VERIFY_FILE
    try:
        return stored.load(VerifyReport, path) if path.exists() else None
    except RefusedInput:
        return None
