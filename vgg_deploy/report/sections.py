"""The sections of a report, as plain values: what a page, Markdown and JSON are made from."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from vgg_deploy.errors import counted
from vgg_deploy.report.bench_plots import latency_plot
from vgg_deploy.report.bench_tables import bench_table, startup_table
from vgg_deploy.report.canvas import Plot
from vgg_deploy.report.chain_tables import hops_table, location_table
from vgg_deploy.report.command_line import bundle_name
from vgg_deploy.report.confusion_plot import confusion_plot
from vgg_deploy.report.findings import Findings
from vgg_deploy.report.gallery import Gallery, worst_images
from vgg_deploy.report.gpu_table import gpu_table
from vgg_deploy.report.layers_plot import layers_plot
from vgg_deploy.report.learning import learning_plot, training_table
from vgg_deploy.report.limit_tables import ceilings_table, layers_table
from vgg_deploy.report.model_tables import blocks_table, model_table
from vgg_deploy.report.plots import error_plot
from vgg_deploy.report.ratio_tables import contest_table
from vgg_deploy.report.roofline_plot import roofline_plot
from vgg_deploy.report.spread_plot import distribution_plot
from vgg_deploy.report.table import Table
from vgg_deploy.report.tables import (
    artifacts_table,
    environment_table,
    figures_table,
    verify_table,
)
from vgg_deploy.report.throughput_plot import throughput_plot
from vgg_deploy.report.tradeoff_plot import accuracy_latency_plot
from vgg_deploy.results import Comparison

Part = Table | Plot | Gallery


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of the report; without parts it says which command makes them."""

    name: str  # a word for ids
    title: str
    lead: str = ""
    parts: tuple[Part, ...] = ()
    command: str = ""


def sections(findings: Findings) -> tuple[Section, ...]:
    """Everything, in the order in which it is read."""
    spec = findings.bundle.card.spec
    files = (artifacts_table(findings.bundle, findings.problems),)
    model = (model_table(findings.bundle.card), blocks_table(spec))
    found = (
        _equivalence(findings),
        _speed(findings),
        _limits(findings),
        Section(name="model", title="Model", parts=model),
        _training(findings),
        Section(name="files", title="Files", parts=files),
        _environment(findings),
    )
    return tuple(section for section in found if section)


def _equivalence(findings: Findings) -> Section:
    report = findings.verify
    name, title = "equivalence", "Equivalence"
    if report is None:
        return Section(name=name, title=title, command=_command("verify", findings))
    current = findings.current
    lead = (
        f"Every backend’s outputs beside those of {report.reference}, on {report.image_source}, "
        f"seeded noise and edge images, at batch {', '.join(map(str, report.batches))}"
        f"{_made_for(findings)}. "
        "Worst first."
    )
    figures = figures_table(report, current)
    located = (location_table(row) for row in findings.comparisons)
    parts = _present(
        verify_table(report, current).without_extra_columns(),
        error_plot(report, current),
        hops_table(findings.comparisons),
        *located,
        worst_images(findings.comparisons),
        confusion_plot(findings.comparisons, findings.bundle.card.labels),
        figures if figures.rows else None,
    )
    return Section(name=name, title=title, lead=lead, parts=parts)


def _made_for(findings: Findings) -> str:
    """What to add on batch sizes where a file takes only some."""
    run = {row.subject.artifact for row in findings.comparisons if row.verdict != "skipped"}
    files = [a for a in findings.bundle.artifacts if str(a.path) in run]
    some = any(isinstance(a.input.shape[0], int) or (a.target and a.target.batches) for a in files)
    return "; a file that is made for certain sizes at those" if some else ""


def _speed(findings: Findings) -> Section:
    report = findings.bench
    name, title = "speed", "Speed"
    contests = [contest_table(c) for c in findings.contests]
    if report is None:
        command = _command("bench", findings)
        return Section(name=name, title=title, parts=tuple(contests), command=command)
    current = findings.current
    start = startup_table(report, current)
    verify = findings.verify and replace(findings.verify, rows=_whole(findings))
    fresh = findings.timed or report
    spec = findings.bundle.card.spec
    parts = _present(
        latency_plot(report, current),
        bench_table(report, current, findings.equivalent, spec),
        *contests,
        throughput_plot(fresh),
        distribution_plot(fresh),
        accuracy_latency_plot(verify, fresh) if verify else None,
        start if start.rows else None,
        gpu_table(report, current),
    )
    return Section(name=name, title=title, parts=parts)


def _limits(findings: Findings) -> Section | None:
    """What the machine can do, and where the time goes; left out where it was not measured."""
    bench, report, spec = findings.bench, findings.timed, findings.bundle.card.spec
    if bench is None or report is None or not (bench.ceilings or bench.layers):
        return None
    lead = (
        "A layer cannot take less time than its multiply-adds at the rate of a large matrix "
        "product, nor than its weights and maps at the speed of a large copy. Both were measured "
        "in the same run."
    )
    if gone := len(bench.layers) - len(report.layers):
        lead += f" {counted(gone, 'profile')} of earlier files left out; bench again."
    parts = _present(
        roofline_plot(report, spec),
        layers_plot(report, spec),
        *layers_table(report, spec),
        *ceilings_table(report),
    )
    return Section(name="limits", title="Limits", lead=lead, parts=parts)


def _whole(findings: Findings) -> tuple[Comparison, ...]:
    """Current comparisons of files that are what they were."""
    return tuple(r for r in findings.comparisons if r.subject.artifact not in findings.problems)


def _training(findings: Findings) -> Section:
    metrics = findings.metrics
    name, title = "training", "Training"
    if findings.withheld:
        return Section(name=name, title=title, lead=findings.withheld)
    if not metrics:
        lead = "No training is on record here: the weights were loaded, or the log is gone."
        command = "vgg-deploy train --help"
        return Section(name=name, title=title, lead=lead, command=command)
    parts = _present(learning_plot(metrics), training_table(metrics))
    return Section(name=name, title=title, lead=_trained_on(findings), parts=parts)


def _trained_on(findings: Findings) -> str:
    """Of which images the figures are; ``verify`` may have taken others."""
    made_by = findings.bundle.checkpoint.made_by
    images, dataset = made_by.get("train_images", ""), made_by.get("dataset", "")
    if not images.isdecimal() or not dataset:
        return ""
    held = made_by.get("validation_images", "")
    held_out = int(held) if held.isdecimal() else 0
    also = f", {held_out:,} more held out to choose the epoch" if held_out else ""
    return (
        f"Trained on {int(images):,} images of {dataset}{also}. Test accuracy here is of its test "
        "images; the accuracy of the verdict is of those that verify names."
    )


def _environment(findings: Findings) -> Section:
    tables = []
    for what, environment in findings.environments:
        table = environment_table(environment)
        tables.append(Table(title=f"Of {what}", columns=table.columns, rows=table.rows))
    command = "" if tables else _command("verify", findings)
    return Section(name="environment", title="Environment", parts=tuple(tables), command=command)


def _present(*parts: Part | None) -> tuple[Part, ...]:
    return tuple(part for part in parts if part is not None)


def _command(verb: str, findings: Findings) -> str:
    return shlex.join(("vgg-deploy", verb, bundle_name(findings.bundle)))
