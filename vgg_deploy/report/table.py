"""A table as a plain value: made once, shown in a terminal, in Markdown and in HTML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Align = Literal["left", "right", "prose"]  # prose: left, and may wrap
RowStatus = Literal["ok", "bad", "warn", "failed", "skipped", "plain"]

# One sign per status besides its colour, for those who do not see the colour.
SIGNS: dict[RowStatus, str] = {
    "ok": "✓",
    "bad": "✗",
    "warn": "!",
    "failed": "⨯",
    "skipped": "–",
    "plain": "",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its name and the unit all its cells are in."""

    name: str
    unit: str = ""
    align: Align = "left"
    extra: bool = False  # left out where there is little room, as in a terminal

    @property
    def title(self) -> str:
        """Name and unit: ``p50 (ms)``."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: a text per column, and optionally a second, quieter text per column."""

    cells: tuple[str, ...]
    status: RowStatus = "plain"
    notes: tuple[str, ...] = ()

    def note(self, index: int) -> str:
        """The quieter text of a cell; empty when there is none."""
        return self.notes[index] if index < len(self.notes) else ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A titled table; ``note`` says what holds for all rows, counts included."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    note: str = ""

    @property
    def has_status(self) -> bool:
        """Whether any row is judged."""
        return any(row.status != "plain" for row in self.rows)

    def without_empty_columns(self) -> Table:
        """The table without the columns in which no row says anything."""
        if not self.rows:
            return self
        told = [
            any(row.cells[i] not in ("", "–") or row.note(i) for row in self.rows)
            for i in range(len(self.columns))
        ]
        return self._with_columns([i for i, says in enumerate(told) if says])

    def without_extra_columns(self) -> Table:
        """The table with its main columns only."""
        return self._with_columns([i for i, c in enumerate(self.columns) if not c.extra])

    def _with_columns(self, kept: Sequence[int]) -> Table:
        rows = tuple(
            replace(
                row,
                cells=tuple(row.cells[i] for i in kept),
                notes=tuple(row.note(i) for i in kept) if row.notes else (),
            )
            for row in self.rows
        )
        return replace(self, columns=tuple(self.columns[i] for i in kept), rows=rows)


def simple_table(
    title: str,
    columns: Sequence[str | Column],
    rows: Iterable[Sequence[str]],
    *,
    statuses: Sequence[RowStatus] | None = None,
    note: str = "",
) -> Table:
    """A table from texts: ``statuses`` has one entry per row, all plain when left out."""
    cells = [tuple(row) for row in rows]
    marks = statuses or ["plain"] * len(cells)
    return Table(
        title=title,
        columns=tuple(c if isinstance(c, Column) else Column(name=c) for c in columns),
        rows=tuple(Row(cells=c, status=s) for c, s in zip(cells, marks, strict=True)),
        note=note,
    )


def to_markdown(table: Table) -> str:
    """The table in GitHub's Markdown, with its title in bold and its note below."""
    head = [escaped(c.title) for c in table.columns]
    rule = ["--:" if c.align == "right" else "---" for c in table.columns]
    body = [[_markdown_cell(row, i) for i in range(len(head))] for row in table.rows]
    if table.has_status:
        head, rule = ["", *head], ["---", *rule]
        body = [[SIGNS[row.status], *cells] for row, cells in zip(table.rows, body, strict=True)]
    text = [f"| {' | '.join(line)} |" for line in [head, rule, *body]]
    parts = [f"**{escaped(table.title)}**", "\n".join(text)]
    if table.note:
        parts.append(escaped(table.note))
    return "\n\n".join(parts) + "\n"


def _markdown_cell(row: Row, index: int) -> str:
    note = row.note(index)
    text = f"{row.cells[index]} ({note})" if note else row.cells[index]
    return escaped(text)


def escaped(text: str) -> str:
    """Text that neither ends a cell nor becomes HTML, emphasis, code, a link or an image."""
    one_line = " ".join(text.split())
    for sign in "\\|*_`[]~":
        one_line = one_line.replace(sign, f"\\{sign}")
    return one_line.replace("<", "&lt;")
