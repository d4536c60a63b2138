"""Progress on stderr: a spinner, a rate, the time left; plain lines where there is no terminal."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class RichWatcher:
    """Draws what a stage tells; see ``pipeline.watch.Watcher``."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._unit = ""

    def __enter__(self) -> RichWatcher:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def begin(self, what: str, total: int | None = None, unit: str = "") -> None:
        """Replace the progress line by one for the next step."""
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._unit = unit
        self._task = self._progress.add_task(what, total=total, rate="")

    def advance(self, done: int = 1) -> None:
        """Move the bar and its rate."""
        if self._task is None:
            return
        self._progress.advance(self._task, done)
        speed = self._progress.tasks[-1].speed
        if speed and self._unit:
            self._progress.update(self._task, rate=f"{speed:,.0f} {self._unit}/s")

    def say(self, text: str) -> None:
        """A line above the progress line."""
        self._console.print(text, markup=False, highlight=False)
