"""Where an error came from: hop by hop from the checkpoint, stage by stage in the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vgg_deploy.report.judged import worst_first
from vgg_deploy.report.quantities import MISSING, NOT_FINITE, significant
from vgg_deploy.report.table import Column, RowStatus, Table, simple_table
from vgg_deploy.results import Comparison, VerifyReport

_STATUS: Mapping[bool | None, RowStatus] = {True: "ok", False: "bad", None: "plain"}


def hops_table(rows: Sequence[Comparison]) -> Table | None:
    """Each step of each artifact's descent once; None without any."""
    hops = {(h.parent, h.child, h.backend): h for row in worst_first(rows) for h in row.hops}
    if not hops:
        return None
    cells = []
    statuses: list[RowStatus] = []
    for hop in hops.values():
        cells.append(
            (
                f"{hop.parent} → {hop.child}",
                hop.backend or MISSING,
                MISSING if hop.rel_l2 is None else significant(hop.rel_l2),
                MISSING if hop.limit is None else f"≤ {significant(hop.limit)}",
                MISSING if hop.added is None else significant(hop.added),
                hop.note,
            )
        )
        statuses.append(_STATUS[hop.ok])
    columns = [
        Column(name="Step"),
        Column(name="Run by"),
        Column(name="Error so far", align="right"),
        Column(name="Limit", align="right"),
        Column(name="Added here", align="right"),
        Column(name="Note", align="prose"),
    ]
    note = "Relative L2: of the child against float64, and of the child’s outputs against its "
    note += "parent’s. The first step that is out of its limit is where the error was made."
    table = simple_table("Step by step from the checkpoint", columns, cells, statuses=statuses,
                         note=note)  # fmt: skip
    return table.without_empty_columns()


def location_table(row: Comparison) -> Table | None:
    """The stages of one artifact that was located; None where it was not."""
    found = row.location
    if found is None or not found.stages:
        return None
    cells = [
        (s.name, NOT_FINITE if s.rel_l2 is None else significant(s.rel_l2), significant(s.limit))
        for s in found.stages
    ]
    statuses: list[RowStatus] = ["ok" if s.ok else "bad" for s in found.stages]
    columns = [
        Column(name="Stage"),
        Column(name="Error", align="right"),
        Column(name="Limit", align="right"),
    ]
    first = f"First stage that diverges: {found.stage}." if found.stage else "No stage diverges."
    return simple_table(
        f"Stage by stage: {row.subject.backend}, {row.subject.artifact}",
        columns, cells, statuses=statuses, note=" ".join([first, found.note]).strip(),
    )  # fmt: skip


def blame_tables(report: VerifyReport) -> list[Table]:
    """For a terminal: the hops where a row differs, and the stages of each file located."""
    different = [row for row in report.rows if row.verdict == "different"]
    found = [hops_table(different), *(location_table(row) for row in different)]
    return [table for table in found if table]
