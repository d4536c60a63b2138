"""The report as Markdown and as JSON: the same sections, without drawings.

The JSON holds what is printed, and beside it the figures themselves, as numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from vgg_deploy.bench.figures import FIGURES
from vgg_deploy.report.canvas import Plot
from vgg_deploy.report.command_line import title_of
from vgg_deploy.report.findings import Findings, summarise
from vgg_deploy.report.gallery import Gallery
from vgg_deploy.report.highlights import highlights
from vgg_deploy.report.reproduce import commands
from vgg_deploy.report.sections import Part, Section, sections
from vgg_deploy.report.table import SIGNS, Row, Table, escaped, to_markdown

SCHEMA_VERSION = 1  # of the JSON


def markdown_of(findings: Findings) -> str:
    """The report in GitHub's Markdown; a plot becomes what it shows, in words."""
    summary = summarise(findings)
    lines = [f"# {escaped(title_of(findings.bundle))}: {summary.word}"]
    lines += [f"- {SIGNS[status]} {text}" for status, text in summary.counts]
    lines += [escaped(remark) for remark in summary.remarks]
    lines += [" ".join(f"{what} {when}." for what, when in made_at(findings))]
    lines += [
        f"- **{h.name}**: {escaped(h.value)} ({escaped(h.detail)})" for h in highlights(findings)
    ]
    for section in sections(findings):
        lines += [f"## {section.title}", *_section(section)]
    script = "\n".join(commands(findings))
    lines += ["## Reproduce", _fenced(script)]
    return "\n\n".join(_joined([line for line in lines if line])) + "\n"


def _fenced(script: str) -> str:
    """A block of code that no run of backticks in it ends."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", script)), default=0))
    return f"{fence}console\n{script}\n{fence}"


def json_of(findings: Findings) -> dict[str, object]:
    """Verdict, highlights and every table of the report as plain values."""
    summary = summarise(findings)
    return {
        "schema_version": SCHEMA_VERSION,
        "bundle": title_of(findings.bundle),
        "checkpoint": findings.bundle.checkpoint.sha256,
        "made_at": {what.lower(): when for what, when in made_at(findings)},
        "verdict": {
            "status": summary.status,
            "word": summary.word,
            "counts": [text for _, text in summary.counts],
            "remarks": list(summary.remarks),
        },
        "highlights": [
            {"name": h.name, "value": h.value, "detail": h.detail} for h in highlights(findings)
        ],
        "figures": {"verify": _compared(findings), "bench": _timed(findings)},
        "sections": {s.name: [_value(part) for part in s.parts] for s in sections(findings)},
        "commands": list(commands(findings)),
    }


def made_at(findings: Findings) -> list[tuple[str, str]]:
    """When the stored results were measured: ``("Verified", time)``, ``("Timed", time)``."""
    reports = (("Verified", findings.verify), ("Timed", findings.bench))
    return [(what, report.made_at) for what, report in reports if report]


def _compared(findings: Findings) -> list[dict[str, object]]:
    """Every comparison with its figures and limits, in the units of ``--fail-if``."""
    return [
        {
            "id": row.subject.id,
            "sha256": row.subject.sha256,
            "verdict": row.verdict,
            "figures": {
                f.name: {"value": _finite(f.value), "limit": _finite(f.limit)} for f in row.figures
            },
        }
        for row in (findings.verify.rows if findings.verify else ())
    ]


def _timed(findings: Findings) -> list[dict[str, object]]:
    """Every timing with its figures, in the units of ``--fail-if``; what is not known is null."""
    return [
        {
            "id": row.subject.id,
            "sha256": row.subject.sha256,
            "batch": row.batch,
            "status": row.status,
            "marks": list(row.marks),
            "figures": {n: _finite(of(row)) for n, of in FIGURES.items()} if row.samples_ns else {},
        }
        for row in (findings.bench.rows if findings.bench else ())
    ]


def _finite(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None


def _joined(lines: list[str]) -> list[str]:
    """List items stay together, everything else is a paragraph of its own."""
    joined: list[str] = []
    for line in lines:
        if joined and line.startswith("- ") and joined[-1].startswith("- "):
            joined[-1] += "\n" + line
        else:
            joined.append(line)
    return joined


def _section(section: Section) -> list[str]:
    parts = [_text(part) for part in section.parts]
    asked = [f"Nothing is stored yet: `{section.command}`"] if section.command else []
    return [*([escaped(section.lead)] if section.lead else []), *asked, *parts]


def _text(part: Part) -> str:
    if isinstance(part, Table):
        return to_markdown(part)
    if isinstance(part, Plot):
        return f"**{escaped(part.title)}**: {escaped(part.description)}"
    said = "\n".join(f"- {escaped(p.name)}: {escaped('; '.join(p.lines))}" for p in part.pictures)
    return f"**{escaped(part.title)}**\n\n{said}"


def _value(part: Part) -> dict[str, object]:
    if isinstance(part, Table):
        titles = [column.title for column in part.columns]
        rows = [_row(row, titles) for row in part.rows]
        return {"table": part.title, "rows": rows, "note": part.note}
    if isinstance(part, Gallery):
        pictures = [{"name": p.name, "said": list(p.lines)} for p in part.pictures]
        return {"images": part.title, "pictures": pictures}
    return {"plot": part.title, "shows": part.description}


def _row(row: Row, titles: Sequence[str]) -> dict[str, object]:
    """Cells by column, and what stands below them in small print: limits, "stale"."""
    notes = {title: note for i, title in enumerate(titles) if (note := row.note(i))}
    cells = dict(zip(titles, row.cells, strict=True))
    return {"status": row.status, **cells, **({"notes": notes} if notes else {})}
