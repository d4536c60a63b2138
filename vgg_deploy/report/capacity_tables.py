"""The tables of ``vgg-deploy plan-capacity``."""

from __future__ import annotations

from collections.abc import Sequence

from vgg_deploy.bench.capacity import CandidatePlan, CapacityReport, Load
from vgg_deploy.report.quantities import MISSING, fixed_all, percent, significant
from vgg_deploy.report.table import Column, RowStatus, Table, simple_table


def capacity_tables(report: CapacityReport) -> list[Table]:
    """The plans, and how replicas and cost of the first one grow."""
    tables = [capacity_table(report)]
    if best := report.candidates[0].plan:
        tables += [
            growth_table("More load", best.by_load),
            growth_table("Other limits", best.by_limit),
        ]
    return tables


def capacity_table(report: CapacityReport) -> Table:
    """One row per deployed file, fewest replicas first."""
    options = report.options
    columns = [
        Column(name="Backend"),
        Column(name="Artifact"),
        *(
            Column(name=name, unit=unit, align="right")
            for name, unit in (
                ("Replicas", ""),
                ("p50", "ms"),
                ("p99", "ms"),
                ("Busy", ""),
                ("Filled", ""),
                ("Most batch", ""),
                ("Waits", "ms"),
                ("Mean batch", ""),
                ("Images/s each", ""),
            )
        ),
        Column(name="Reason", align="prose"),
    ]
    return simple_table(
        f"Replicas for {options.qps:,g} images/s with a p99 of {options.p99_ms:g} ms",
        columns,
        [_row(candidate) for candidate in report.candidates],
        statuses=["ok" if c.plan and not c.marks else "warn" for c in report.candidates],
        note=_note(report),
    )


def growth_table(title: str, loads: Sequence[Load]) -> Table:
    """How replicas and cost grow with the load, or with a tighter limit."""
    names = ["Images/s", "p99 limit (ms)", "Replicas", "p99 (ms)", "Busy", "Filled"]
    names.append("Replica hours per million images")
    priced = any(load.price_per_million is not None for load in loads)
    if priced:
        names.append("Price per million images")
    columns = [Column(name=name, align="right") for name in names]
    statuses: list[RowStatus] = ["plain" if load.holds else "warn" for load in loads]
    return simple_table(title, columns, [_grown(load, priced) for load in loads], statuses=statuses)


def _grown(load: Load, priced: bool) -> tuple[str, ...]:
    row = (
        f"{load.qps:,.0f}" if load.qps >= 100 else significant(load.qps),
        f"{load.limit_ms:g}",
        f"{load.replicas:,}",
        significant(load.p99_ms),
        percent(load.busy, 0),
        percent(load.filled, 0),
        significant(load.replica_hours_per_million),
    )
    return (*row, significant(load.price_per_million or 0.0)) if priced else row


def _row(candidate: CandidatePlan) -> tuple[str, ...]:
    head = (candidate.subject.backend, candidate.subject.artifact)
    reasons = "; ".join([*candidate.marks, *([candidate.reason] if candidate.reason else [])])
    if candidate.plan is None:
        return (*head, *[MISSING] * 9, reasons)
    load, policy = candidate.plan.load, candidate.plan.policy
    p50, p99 = fixed_all([load.p50_ms, load.p99_ms])
    return (
        *head,
        f"{load.replicas:,}",
        p50,
        p99,
        percent(load.busy, 0),
        percent(load.filled, 0),
        str(policy.max_batch),
        significant(policy.max_delay_s * 1e3, 2),
        significant(load.mean_batch),
        significant(candidate.plan.most_per_replica),
        reasons,
    )


def _note(report: CapacityReport) -> str:
    machine = report.environment
    return (
        f"One replica is one process that has this machine to itself: {machine.cores} cores of "
        f"{machine.cpu}{f', {machine.gpu}' if machine.gpu else ''}, measured "
        f"{report.measured_at}. Busy: share of the time it computes; filled: share of what full "
        "batches without a gap would take. Requests of one image arrive at random and are "
        "spread at random; network and decoding are not in it."
    )
