"""The few figures a reader wants before the tables."""

from __future__ import annotations

from dataclasses import dataclass

from vgg_deploy.report.findings import Findings
from vgg_deploy.report.judged import closest, title_of, used_up
from vgg_deploy.report.latency import median_ms
from vgg_deploy.report.quantities import percent, significant, size


@dataclass(frozen=True, kw_only=True)
class Highlight:
    """One figure: what it is, its value, and what qualifies it."""

    name: str
    value: str
    detail: str


def highlights(findings: Findings) -> tuple[Highlight, ...]:
    """Accuracy, fastest proven backend, tightest limit, smallest proven file."""
    found = (_accuracy(findings), _fastest(findings), _tightest(findings), _smallest(findings))
    return tuple(highlight for highlight in found if highlight)


def _accuracy(findings: Findings) -> Highlight | None:
    good = [row.accuracy for row in findings.proven if row.accuracy]
    good = [accuracy for accuracy in good if accuracy.total]
    if not good:
        return None
    low, high = min(a.top1 for a in good), max(a.top1 for a in good)
    value = percent(low, 2) if low == high else f"{percent(low, 2)} to {percent(high, 2)}"
    detail = f"top-1 on {good[0].total:,} images, {good[0].dataset} {good[0].split}"
    return Highlight(name="Accuracy", value=value, detail=detail)


def _fastest(findings: Findings) -> Highlight | None:
    """Lowest median of what was proven equivalent, at the smallest batch.

    A measurement that breaks a rule makes no headline, and a slower one none in its place.
    """
    rows = [
        (row, ms)
        for row in (findings.bench.rows if findings.bench else ())
        if row.subject in findings.equivalent and (ms := median_ms(row))
    ]
    if not rows:
        return None
    batch = min(row.batch for row, _ in rows)
    row, ms = min((pair for pair in rows if pair[0].batch == batch), key=lambda pair: pair[1])
    detail = f"{row.subject.backend}, {row.subject.artifact}, median at batch {batch}"
    if row.marks:
        return Highlight(
            name="Fastest, proven", value="not settled", detail=f"{detail}; {row.marks[0]}"
        )
    return Highlight(name="Fastest, proven", value=f"{significant(ms)} ms", detail=detail)


def _tightest(findings: Findings) -> Highlight | None:
    """How near an equivalent backend came to one of its limits."""
    pairs = [(row, figure) for row in findings.proven if (figure := closest(row))]
    if not pairs:
        return None
    row, figure = max(pairs, key=lambda pair: used_up(pair[1]))
    detail = f"{title_of(figure.name)}, {row.subject.backend}, {row.subject.artifact}"
    return Highlight(
        name="Nearest its limit", value=f"{percent(used_up(figure), 0)} used", detail=detail
    )


def _smallest(findings: Findings) -> Highlight | None:
    files = [s for s in findings.equivalent if s.format != "checkpoint"]
    if not files:
        return None
    best = min(files, key=lambda s: (s.size_bytes, s.artifact))
    return Highlight(name="Smallest, proven", value=size(best.size_bytes), detail=best.artifact)
