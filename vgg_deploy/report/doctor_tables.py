"""The tables of ``vgg-deploy doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vgg_deploy.environment import Environment
from vgg_deploy.report.table import Column, Table, simple_table
from vgg_deploy.report.tables import environment_table


class Finding(Protocol):
    """Something that was looked for; see ``vgg_deploy.doctor.Finding``."""

    @property
    def name(self) -> str:
        """What was looked for."""
        ...

    @property
    def usable(self) -> bool:
        """Whether it is there."""
        ...

    @property
    def detail(self) -> str:
        """Where, or why not."""
        ...

    @property
    def remedy(self) -> str:
        """How to get it."""
        ...


def doctor_tables(
    backends: Sequence[Finding], others: Sequence[Finding], environment: Environment
) -> tuple[Table, Table, Table]:
    """Backends, other parts, and the environment."""
    return (
        _findings("Backends", backends),
        _findings("Other parts", others),
        environment_table(environment),
    )


def _findings(title: str, findings: Sequence[Finding]) -> Table:
    usable = sum(finding.usable for finding in findings)
    columns = [
        Column(name="Name"),
        Column(name="What was found", align="prose"),
        Column(name="How to get it", align="prose"),
    ]
    return simple_table(
        title,
        columns,
        [(f.name, f.detail, f.remedy) for f in findings],
        statuses=["ok" if f.usable else "skipped" for f in findings],
        note=f"{usable} of {len(findings)} usable here.",
    )
