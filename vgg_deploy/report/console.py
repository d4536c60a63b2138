"""Tables in a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from vgg_deploy.errors import printable
from vgg_deploy.report.table import SIGNS, Row, RowStatus, Table

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


def to_rich(table: Table) -> RichTable:
    """The main columns for ``rich``: a sign per judged row, prose wraps, numbers do not."""
    table = table.without_extra_columns()
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
    for place, column in enumerate(table.columns):
        shown.add_column(
            Text(column.title),
            justify="right" if column.align == "right" else "left",
            overflow="fold",  # a long file name is broken rather than cut
            no_wrap=column.align == "right" or (place == 0 and column.align != "prose"),
            min_width=min(_LEAST, max((len(row.cells[place]) for row in table.rows), default=0)),
        )
    for row in table.rows:
        signs = [Text(SIGNS[row.status], style=_STYLES[row.status])] if table.has_status else []
        shown.add_row(*signs, *(_cell(row, i) for i in range(len(table.columns))))
    return shown


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
