"""One self-contained HTML page from a bundle's stored results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.files import write_text
from vgg_deploy.report.bench_plots import latency_plot
from vgg_deploy.report.bench_tables import bench_table, startup_table
from vgg_deploy.report.canvas import Plot
from vgg_deploy.report.findings import Findings, gather, summarise
from vgg_deploy.report.highlights import highlights
from vgg_deploy.report.model_tables import blocks_table, model_table
from vgg_deploy.report.plots import error_plot, learning_plot
from vgg_deploy.report.reproduce import bundle_name, commands
from vgg_deploy.report.spread_plot import distribution_plot
from vgg_deploy.report.table import SIGNS, Table
from vgg_deploy.report.tables import (
    artifacts_table,
    environment_table,
    figures_table,
    training_table,
    verify_table,
)
from vgg_deploy.report.throughput_plot import throughput_plot
from vgg_deploy.report.tradeoff_plot import accuracy_latency_plot

REPORT_FILE = "report.html"  # relative to the bundle
TEMPLATE = "template.html"


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of the page; without parts it says which command makes them."""

    name: str  # a word for ids
    title: str
    lead: str = ""
    parts: tuple[Table | Plot, ...] = ()
    command: str = ""


def write_report(bundle: Bundle, path: Path) -> Path:
    """Write the page of a bundle to ``path``, atomically; returns ``path``.

    Raises ``BackendNotAvailable`` without jinja2 or matplotlib, ``RefusedInput`` for stored
    results that cannot be read.
    """
    write_text(path, page_of(gather(bundle)))
    return path


def page_of(findings: Findings) -> str:
    """The page as text; equal findings give equal text."""
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
    bundle = findings.bundle
    return environment.from_string(template).render(
        name=bundle.root.absolute().name,
        card=bundle.card,
        summary=summarise(findings),
        highlights=highlights(findings),
        sections=_sections(findings),
        artifacts=bundle.artifacts,
        paths={a.sha256: str(a.path) for a in bundle.artifacts},
        commands=commands(findings),
        signs=SIGNS,
        is_table=lambda part: isinstance(part, Table),
        made_at=_made_at(findings),
    )


def _sections(findings: Findings) -> tuple[Section, ...]:
    spec = findings.bundle.card.spec
    return (
        _equivalence(findings),
        _speed(findings),
        Section(
            name="model",
            title="Model",
            parts=(model_table(findings.bundle.card), blocks_table(spec)),
        ),
        _training(findings),
        Section(
            name="files",
            title="Files",
            parts=(artifacts_table(findings.bundle, findings.problems),),
        ),
        _environment(findings),
    )


def _equivalence(findings: Findings) -> Section:
    report = findings.verify
    name, title = "equivalence", "Equivalence"
    if report is None:
        return Section(name=name, title=title, command=_command("verify", findings))
    current = findings.current
    lead = (
        f"Every backend’s outputs beside those of {report.reference}, on {report.image_source}, "
        f"seeded noise and edge images, at batch {', '.join(map(str, report.batches))}. "
        "Worst first."
    )
    found = (verify_table(report, current).without_extra_columns(), error_plot(report, current))
    figures = figures_table(report, current)
    parts = _present(*found, figures if figures.rows else None)
    return Section(name=name, title=title, lead=lead, parts=parts)


def _speed(findings: Findings) -> Section:
    report = findings.bench
    name, title = "speed", "Speed"
    if report is None:
        return Section(name=name, title=title, command=_command("bench", findings))
    current = findings.current
    start = startup_table(report, current)
    parts = _present(
        latency_plot(report, current),
        bench_table(report, current, findings.equivalent),
        throughput_plot(report),
        distribution_plot(report),
        accuracy_latency_plot(findings.verify, report) if findings.verify else None,
        start if start.rows else None,
    )
    return Section(name=name, title=title, parts=parts)


def _training(findings: Findings) -> Section:
    metrics = findings.metrics
    name, title = "training", "Training"
    if not metrics:
        lead = "No training is on record here: the weights were loaded, or the log is gone."
        command = "vgg-deploy train --help"
        return Section(name=name, title=title, lead=lead, command=command)
    parts = _present(learning_plot(metrics), training_table(metrics))
    return Section(name=name, title=title, parts=parts)


def _environment(findings: Findings) -> Section:
    tables = []
    for what, environment in findings.environments:
        table = environment_table(environment)
        tables.append(Table(title=f"Of {what}", columns=table.columns, rows=table.rows))
    command = "" if tables else _command("verify", findings)
    return Section(name="environment", title="Environment", parts=tuple(tables), command=command)


def _present(*parts: Table | Plot | None) -> tuple[Table | Plot, ...]:
    return tuple(part for part in parts if part is not None)


def _command(verb: str, findings: Findings) -> str:
    return f"vgg-deploy {verb} {bundle_name(findings.bundle)}"


def _made_at(findings: Findings) -> Sequence[tuple[str, str]]:
    reports = (("Verified", findings.verify), ("Timed", findings.bench))
    return [(what, report.made_at) for what, report in reports if report]
