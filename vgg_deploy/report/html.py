"""One self-contained HTML page from a bundle's stored results."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from vgg_deploy import __version__, jsonio
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import now
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.files import write_text
from vgg_deploy.report.bench_tables import bench_table, startup_table
from vgg_deploy.report.canvas import Plot
from vgg_deploy.report.judged import digests
from vgg_deploy.report.plots import (
    accuracy_latency_plot,
    error_plot,
    latency_plot,
    learning_plot,
    throughput_plot,
)
from vgg_deploy.report.table import SIGNS, Table
from vgg_deploy.report.tables import (
    artifacts_table,
    environment_table,
    figures_table,
    training_table,
    verify_table,
)
from vgg_deploy.results import BENCH_FILE, VERIFY_FILE, BenchReport, VerifyReport

REPORT_FILE = "report.html"
METRICS_FILE = "training/metrics.jsonl"
TEMPLATE = "template.html"


def write_report(bundle: Bundle, path: Path) -> Path:
    """Write the page of a bundle to ``path``; results that are not there yet are said to be.

    Raises ``BackendNotAvailable`` without jinja2 and matplotlib, ``RefusedInput`` for stored
    results that cannot be read.
    """
    try:
        import jinja2
    except ImportError as error:
        raise BackendNotAvailable(
            "the report needs jinja2, which is not installed", 'pip install "vgg-deploy[report]"'
        ) from error
    template = resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(template).render(**_context(bundle))
    write_text(path, page)
    return path


def _context(bundle: Bundle) -> dict[str, Any]:
    verify_path, bench_path = bundle.root / VERIFY_FILE, bundle.root / BENCH_FILE
    verify = jsonio.load(VerifyReport, verify_path) if verify_path.exists() else None
    bench = jsonio.load(BenchReport, bench_path) if bench_path.exists() else None
    metrics = read_metrics(bundle.root / METRICS_FILE)
    current = digests(bundle)
    problems = {str(a.path): text for a in bundle.artifacts if (text := bundle.problem(a))}
    return {
        "name": bundle.root.absolute().name,
        "version": __version__,
        "made_at": now(),
        "card": bundle.card,
        "verdict": _verdict(verify, current),
        "signs": SIGNS,
        "sections": _sections(bundle, verify, bench, metrics, current, problems),
        "artifacts": bundle.artifacts,
    }


def _sections(
    bundle: Bundle,
    verify: VerifyReport | None,
    bench: BenchReport | None,
    metrics: list[dict[str, object]],
    current: Mapping[str, str],
    problems: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Title, tables and plots of each section; a section without results says how to get them."""
    verified = [row.subject for row in verify.rows if row.verdict == "equivalent"] if verify else []
    command = f"vgg-deploy {{}} {bundle.root}"
    tables: dict[str, list[Table]] = {
        "Equivalence": [verify_table(verify, current), figures_table(verify, current)]
        if verify
        else [],
        "Speed": [bench_table(bench, current, verified), startup_table(bench, current)]
        if bench
        else [],
        "Training": [training_table(metrics)] if metrics else [],
        "Files": [artifacts_table(bundle, problems)],
        "Environment": [environment_table((verify or bench).environment)]  # type: ignore[union-attr]
        if verify or bench
        else [],
    }
    plots: dict[str, list[Plot | None]] = {
        "Equivalence": [error_plot(verify, current)] if verify else [],
        "Speed": [latency_plot(bench, current), throughput_plot(bench)] if bench else [],
        "Training": [learning_plot(metrics)] if metrics else [],
    }
    if verify and bench:
        plots["Speed"].append(accuracy_latency_plot(verify, bench))
    absent = {
        "Equivalence": f"Nothing was verified yet: {command.format('verify')}",
        "Speed": f"Nothing was timed yet: {command.format('bench')}",
        "Training": "The weights were loaded, not trained here.",
        "Environment": "Nothing was measured yet.",
    }
    return [
        {
            "title": title,
            "tables": found,
            "plots": [plot for plot in plots.get(title, []) if plot],
            "absent": "" if found else absent.get(title, ""),
        }
        for title, found in tables.items()
    ]


def _verdict(verify: VerifyReport | None, current: Mapping[str, str]) -> dict[str, str]:
    """The word on top of the page, its class and the counts behind it."""
    if verify is None:
        return {"word": "Not verified", "kind": "warn", "counts": "no verdict is stored yet"}
    counts = {
        kind: sum(row.verdict == kind for row in verify.rows)
        for kind in ("equivalent", "different", "failed", "skipped")
    }
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    stale = any(
        row.subject.sha256 and current.get(row.subject.artifact) != row.subject.sha256
        for row in verify.rows
    )
    if stale:
        return {"word": "Stale", "kind": "warn", "counts": "files changed since verify; " + told}
    if counts["different"] or counts["failed"]:
        return {"word": "Not equivalent", "kind": "bad", "counts": told}
    if not counts["equivalent"]:
        return {"word": "Not verified", "kind": "warn", "counts": told}
    return {"word": "Equivalent", "kind": "ok", "counts": told}


def read_metrics(path: Path) -> list[dict[str, object]]:
    """Rows of ``metrics.jsonl``; none when there is no file, and broken lines are left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows
