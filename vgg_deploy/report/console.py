"""Tables in a terminal."""

from __future__ import annotations

from dataclasses import replace

from rich import box
from rich.console import Console, Group
from rich.table import Table as RichTable
from rich.text import Text

from vgg_deploy.errors import printable
from vgg_deploy.report.table import SIGNS, Column, Row, RowStatus, Table

_STYLES: dict[RowStatus, str] = {
    "ok": "green",
    "bad": "bold red",
    "warn": "yellow",
    "failed": "bold magenta",
    "skipped": "dim",
    "plain": "",
}
_WIDEST = 100_000  # characters
_LEAST = 10  # characters a column keeps; narrower, file names fall into crumbs


def fitting(console: Console, table: Table) -> RichTable | Group:
    """The table as wide as it needs to be, else with names broken, too, else row by row.

    A table that is too wide for its terminal would lose its last columns without a word.
    """
    for names_wrap in (False, True):
        if _least_width(console, table, names_wrap=names_wrap) <= console.width:
            return to_rich(table, names_wrap=names_wrap)
    return _row_by_row(table.without_extra_columns())


def to_rich(table: Table, *, names_wrap: bool = False) -> RichTable:
    """The main columns for ``rich``: a sign per judged row, prose wraps, numbers do not."""
    table = table.without_extra_columns()
    shown = _frame(table)
    for place, column in enumerate(table.columns):
        shown.add_column(
            Text(column.title),
            justify="right" if column.align == "right" else "left",
            overflow="fold",  # a long file name is broken rather than cut
            no_wrap=not _wraps(column, place, names_wrap),
            min_width=min(_LEAST, _widest(table, place)),
        )
    for row in table.rows:
        signs = [Text(SIGNS[row.status], style=_STYLES[row.status])] if table.has_status else []
        shown.add_row(*signs, *(_cell(row, i) for i in range(len(table.columns))))
    return shown


def _frame(table: Table) -> RichTable:
    """All but the columns of the table itself."""
    shown = RichTable(
        title=to_title(table) if table.title else None,
        caption=Text(table.note, style="dim") if table.note else None,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title_justify="left",
        caption_justify="left",
    )
    if table.has_status:
        shown.add_column("", no_wrap=True)
    return shown


def _wraps(column: Column, place: int, names_wrap: bool) -> bool:
    return column.align != "right" and (place > 0 or column.align == "prose" or names_wrap)


def _widest(table: Table, place: int) -> int:
    """Of the cells and the notes below them."""
    texts = [text for row in table.rows for text in (row.cells[place], row.note(place))]
    return max(map(len, texts), default=0)


def _least_width(console: Console, table: Table, *, names_wrap: bool) -> int:
    """Characters in which no column is cut: that of a table of what each one keeps."""
    table = table.without_extra_columns()
    shown = _frame(replace(table, title="", note=""))
    for place, column in enumerate(table.columns):
        kept = max(_widest(table, place), len(column.title))
        shown.add_column("x" * (min(_LEAST, kept) if _wraps(column, place, names_wrap) else kept))
    return console.measure(shown, options=console.options.update(max_width=_WIDEST)).maximum


def _row_by_row(table: Table) -> Group:
    """A line for each cell, as ``title: text``."""
    lines = [to_title(table)] if table.title else []
    for row in table.rows:
        lines.append(Text())
        for place, column in enumerate(table.columns):
            line = _cell(row, place)
            if place and not line.plain:
                continue
            if place == 0 and table.has_status:
                line = Text(f"{SIGNS[row.status]} ", style=_STYLES[row.status]).append_text(line)
            elif place:
                line = Text(f"  {column.title}: ").append_text(line)
            line.overflow = "fold"
            lines.append(line)
    if table.note:
        lines += [Text(), Text(table.note, style="dim")]
    return Group(*lines, Text())


def to_title(table: Table) -> Text:
    """The title as it stands above the table."""
    return Text(printable(table.title), style="bold")


def needed_width(console: Console, table: Table) -> int:
    """Columns of characters that the table takes where nothing is wrapped."""
    options = console.options.update(max_width=_WIDEST)
    return console.measure(to_rich(table), options=options).maximum


def _cell(row: Row, index: int) -> Text:
    """Text, not markup: a label such as ``[red]`` is shown as it is."""
    style = "dim" if row.status == "skipped" else ""
    text = Text(printable(row.cells[index]), style=style)
    if note := row.note(index):
        text.append(f"\n{printable(note)}", style="dim")
    return text
