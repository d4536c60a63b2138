"""The tables of vgg-deploy, as plain values made from stored results.

``verify_table`` and ``bench_table`` keep every row: skipped and failed ones say why, stale ones
(measured on a file that has been replaced since) are marked. ``current`` is ``digests(bundle)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vgg_deploy.artifact import Artifact
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import Environment
from vgg_deploy.errors import counted
from vgg_deploy.report.bench_tables import bench_table, startup_table
from vgg_deploy.report.judged import (
    STALE,
    closest,
    digests,
    is_stale,
    limit_text,
    tally,
    title_of,
    used_up,
    value_text,
    worst_first,
)
from vgg_deploy.report.quantities import (
    MISSING,
    percent,
    size,
)
from vgg_deploy.report.table import Column, Row, RowStatus, Table, simple_table, to_markdown
from vgg_deploy.results import Comparison, Figure, Verdict, VerifyReport
from vgg_deploy.trt.match import settings_of

__all__ = [
    "Column",
    "Row",
    "RowStatus",
    "Table",
    "artifacts_table",
    "bench_table",
    "digests",
    "environment_table",
    "figures_table",
    "simple_table",
    "startup_table",
    "to_markdown",
    "verify_table",
]

_VERDICTS = ("equivalent", "different", "failed", "skipped", "stale")
_STATUS: Mapping[Verdict, RowStatus] = {
    "equivalent": "ok",
    "different": "bad",
    "failed": "failed",
    "skipped": "skipped",
}


def verify_table(report: VerifyReport, current: Mapping[str, str] | None = None) -> Table:
    """One row per backend and artifact, worst first, with the figure nearest to its limit."""
    columns = (
        Column(name="Backend"),
        Column(name="Artifact"),
        Column(name="Verdict"),
        Column(name="Nearest its limit", extra=True),
        Column(name="Value", align="right", extra=True),
        Column(name="Limit", align="right", extra=True),
        Column(name="Accuracy", align="right"),
        Column(name="Reason", align="prose"),
    )
    ordered = worst_first(report.rows)
    rows = tuple(_verify_row(row, is_stale(row.subject, current)) for row in ordered)
    images = " + ".join(f"{n:,} {kind}" for kind, n in report.inputs.items())
    note = f"{_verdict_tally(report, current)}. Inputs: {images or 'none'}.{_tested(report)}"
    return Table(
        title="Equivalence to the float64 reference", columns=columns, rows=rows, note=note
    ).without_empty_columns()


def figures_table(report: VerifyReport, current: Mapping[str, str] | None = None) -> Table:
    """Every figure of every comparison beside its limit: a column per figure, worst row first."""
    names = list(dict.fromkeys(f.name for row in report.rows for f in row.figures))
    columns = (
        Column(name="Backend"),
        Column(name="Artifact"),
        *(Column(name=title_of(name), align="right") for name in names),
    )
    ordered = [row for row in worst_first(report.rows) if row.figures]
    rows = tuple(_figures_row(row, names, is_stale(row.subject, current)) for row in ordered)
    note = "Below each figure, the limit it was judged by; without one it is only reported."
    return Table(title="Every figure beside its limit", columns=columns, rows=rows, note=note)


def artifacts_table(bundle: Bundle, problems: Mapping[str, str] | None) -> Table:
    """The files of a bundle; ``problems`` by path for those that fail, ``None``: not checked."""
    names = {a.sha256: str(a.path) for a in bundle.artifacts}
    engines = any(settings_of(a) for a in bundle.artifacts)
    columns = (
        Column(name="File"),
        Column(name="Format"),
        Column(name="Precision"),
        Column(name="Size", align="right"),
        *([Column(name="Built with")] if engines else []),
        Column(name="Made from"),
        Column(name="SHA-256"),
        Column(name="Digest"),
    )
    rows = tuple(_artifact_row(a, names, problems, engines) for a in bundle.artifacts)
    total = sum(a.size_bytes for a in bundle.artifacts)
    note = f"{counted(len(rows), 'file')}, {size(total)}."
    return Table(title="Artifacts", columns=columns, rows=rows, note=note)


def environment_table(environment: Environment) -> Table:
    """Machine and versions a result was measured with."""
    flags = f" ({', '.join(environment.cpu_flags)})" if environment.cpu_flags else ""
    gpu = environment.gpu or "none"
    driver = f", driver {environment.driver}" if environment.driver else ""
    rows = [
        ("Processor", environment.cpu + flags),
        ("Cores", f"{environment.cores:,} usable"),
        ("Memory", size(environment.memory_bytes)),
        ("GPU", gpu + driver),
        ("System", environment.system),
        ("Python", environment.python),
        *environment.versions.items(),
    ]
    return simple_table("Environment", ["What", Column(name="Value", align="prose")], rows)


def _verdict_tally(report: VerifyReport, current: Mapping[str, str] | None) -> str:
    words = ["stale" if is_stale(r.subject, current) else r.verdict for r in report.rows]
    return tally(words, _VERDICTS) or "nothing was compared"


def _tested(report: VerifyReport) -> str:
    """On how many images accuracy was told, and of how many."""
    found = next((row.accuracy for row in report.rows if row.accuracy), None)
    if found is None:
        return ""
    of = "" if found.available is None else f" of the {found.available:,}"
    return f" Accuracy: on {found.total:,}{of} images of {found.dataset}."


def _verify_row(row: Comparison, stale: bool) -> Row:
    figure = closest(row)
    reason = STALE if stale else row.reason or _kept(row, figure)
    accuracy = row.accuracy
    top1 = percent(accuracy.top1, 2) if accuracy and accuracy.total else ""
    return Row(
        cells=(
            row.subject.backend,
            row.subject.artifact,
            "stale" if stale else row.verdict,
            title_of(figure.name) if figure else "",
            value_text(figure) if figure else "",
            limit_text(figure) if figure else "",
            top1,
            reason,
        ),
        status="warn" if stale else _STATUS[row.verdict],
    )


def _kept(row: Comparison, nearest: Figure | None) -> str:
    """What to say of a row that has nothing to complain about."""
    judged = [f for f in row.figures if f.limit is not None]
    if nearest is None or not judged:
        return ""
    used = used_up(nearest)
    room = f"; {title_of(nearest.name)} at {percent(used, 0)} of its limit" if used else ""
    return f"{sum(f.ok for f in judged)} of {len(judged)} limits kept{room}"


def _figures_row(row: Comparison, names: Sequence[str], stale: bool) -> Row:
    found = {f.name: f for f in row.figures}
    values = [value_text(found[n]) if n in found else MISSING for n in names]
    limits = [
        limit_text(found[n]) + ("" if found[n].ok else " ✗") if n in found else "" for n in names
    ]
    return Row(
        cells=(row.subject.backend, row.subject.artifact, *values),
        notes=("stale" if stale else "", "", *limits),
        status="warn" if stale else _STATUS[row.verdict],
    )


def _artifact_row(
    artifact: Artifact,
    names: Mapping[str, str],
    problems: Mapping[str, str] | None,
    engines: bool,
) -> Row:
    path = str(artifact.path)
    parent = artifact.parent
    origin = MISSING if parent is None else names.get(parent, f"{parent[:12]}… (gone)")
    problem = None if problems is None else problems.get(path)
    holds: RowStatus = "plain" if problems is None else "bad" if problem else "ok"
    state = "not checked" if problems is None else problem or "holds"
    return Row(
        cells=(
            path,
            artifact.format,
            artifact.precision,
            size(artifact.size_bytes),
            *([settings_of(artifact)] if engines else []),
            origin,
            artifact.sha256[:12],
            state,
        ),
        status=holds,
    )
