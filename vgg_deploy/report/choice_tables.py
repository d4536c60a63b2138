"""Tables of ``vgg-deploy choose``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vgg_deploy.report.quantities import MISSING, fixed_all, percent, significant
from vgg_deploy.report.table import Column, RowStatus, Table, simple_table
from vgg_deploy.results import Subject


class Judged(Protocol):
    """A pair of file and backend with its costs, and why it is out."""

    @property
    def subject(self) -> Subject:
        """Which file in which backend."""
        ...

    @property
    def latency_ms(self) -> float | None:
        """At the percentile asked for."""
        ...

    @property
    def top1(self) -> float | None:
        """Accuracy, 0..1."""
        ...

    @property
    def size_mb(self) -> float:
        """File size in 10⁶ bytes."""
        ...

    @property
    def reason(self) -> str:
        """Why it is out; empty where it fits."""
        ...


def best_table(best: Sequence[Judged], percentile: int, batch: int) -> Table:
    """The Pareto set, fastest first."""
    note = "Nothing else that fits is better in one of these without being worse in another."
    title = f"What fits, at batch {batch}"
    return simple_table(
        title, _columns(percentile), _cells(best), statuses=["ok"] * len(best), note=note
    ).without_empty_columns()


def out_table(out: Sequence[Judged], percentile: int) -> Table:
    """Everything else, with the reason."""
    statuses: list[RowStatus] = [_status(c.reason) for c in out]
    columns = [*_columns(percentile), Column(name="Why not", align="prose")]
    cells = [[*row, c.reason] for row, c in zip(_cells(out), out, strict=True)]
    return simple_table("What does not", columns, cells, statuses=statuses).without_empty_columns()


def _columns(percentile: int) -> list[Column]:
    return [
        Column(name="Backend"),
        Column(name="Artifact"),
        Column(name=f"p{percentile}", unit="ms", align="right"),
        Column(name="Accuracy", align="right"),
        Column(name="File", unit="MB", align="right"),
    ]


def _cells(candidates: Sequence[Judged]) -> list[list[str]]:
    milliseconds = fixed_all([c.latency_ms for c in candidates])
    return [
        [
            c.subject.backend,
            c.subject.artifact,
            ms,
            percent(c.top1, 2),
            significant(c.size_mb) if c.size_mb else MISSING,
        ]
        for c, ms in zip(candidates, milliseconds, strict=True)
    ]


def _status(reason: str) -> RowStatus:
    word = reason.split(":", 1)[0]
    kinds: dict[str, RowStatus] = {"skipped": "skipped", "failed": "failed", "different": "bad"}
    return kinds.get(word, "warn")
