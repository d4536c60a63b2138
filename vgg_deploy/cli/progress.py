"""Progress on stderr: a spinner, a rate, the time left; plain lines where there is no terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from vgg_deploy.cli.console import leave_closed_terminal
from vgg_deploy.cli.interrupt import insist
from vgg_deploy.pipeline.stages import Stage, tree_text
from vgg_deploy.report.quantities import duration

_EVERY_S = 0.125  # between two drawings
_LINES = 4  # of each stage in the live tree; the log has all


class _Counted(MofNCompleteColumn):
    """Done of all; nothing for a step whose length nobody knows."""

    def render(self, task: Task) -> Text:
        return Text() if task.total is None else super().render(task)


class _Left(TimeRemainingColumn):
    """The time left; of a step of unknown length, by the seconds that the last such step took."""

    def render(self, task: Task) -> Text:
        usual: float | None = task.fields["seconds"]
        if task.total is not None or usual is None or task.elapsed is None:
            return super().render(task)
        left = usual - task.elapsed
        text = f"about {duration(left)} left" if left > 0 else f"last time {duration(usual)}"
        return Text(text, style="progress.remaining")


class RichWatcher:
    """Draws what a stage tells; see ``pipeline.watch.Watcher``.

    It draws from a thread of its own, which stands still while something is being timed. Without
    ``live`` there are plain lines.
    """

    def __init__(self, console: Console, *, live: bool) -> None:
        self._console, self._drawn = console, live
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            _Counted(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            _Left(compact=True),
            console=console,
            auto_refresh=False,
        )
        self._stages: list[Stage] = []
        self._live = Live(
            console=console, auto_refresh=False, transient=True, get_renderable=self._drawing
        )
        self._task: TaskID | None = None
        self._unit = ""
        self._rated = 0.0  # when the speed was last put into words
        self._still = self._over = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._keep_drawing, daemon=True)

    def __enter__(self) -> RichWatcher:
        if self._drawn:
            self._live.start()
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over = True
        leave_closed_terminal()
        if self._drawn:
            self._thread.join()
            self._live.stop()
            if self._stages:  # the tree stays when the progress line goes
                self._console.print(self._tree())

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A branch of the live tree."""
        stage = Stage(name, time.monotonic())
        self._stages.append(stage)
        try:
            yield
        except BaseException:
            stage.state = "failed"
            raise
        else:
            stage.state = "done"
        finally:
            stage.ended = time.monotonic()

    def begin(
        self, what: str, total: int | None = None, unit: str = "", *, seconds: float | None = None
    ) -> None:
        """Replace the progress line by one for the next step."""
        insist()
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._unit, self._rated = unit, 0.0
        self._task = self._progress.add_task(what, total=total, rate="", seconds=seconds)
        self._draw()

    def advance(self, done: int = 1) -> None:
        """Move the bar and its rate."""
        insist()
        if self._task is None:
            return
        self._progress.advance(self._task, done)
        self._rate(self._task)
        if self._still:  # nobody else draws now
            self._draw()

    def _rate(self, task: TaskID) -> None:
        """The speed in words, no more often than it is drawn: it is summed over many samples."""
        now = time.monotonic()
        if not (self._unit and self._drawn) or now - self._rated < _EVERY_S:
            return
        self._rated = now
        if speed := self._progress.tasks[-1].speed:
            self._progress.update(task, rate=f"{speed:,.0f} {self._unit}/s")

    def say(self, text: str) -> None:
        """A line in its branch of the tree, or above the progress line."""
        leave_closed_terminal()
        if self._stages and self._drawn:
            self._stages[-1].lines.append(text)
        else:
            self._console.print(text, markup=False, highlight=False)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """The thread that draws stands still; ``advance`` draws instead."""
        self._still = True
        try:
            yield
        finally:
            self._still = False

    def _keep_drawing(self) -> None:
        while not self._over:
            time.sleep(_EVERY_S)
            if not self._still:
                self._draw()

    def _draw(self) -> None:
        if self._drawn:
            with self._lock:
                self._live.refresh()

    def _drawing(self) -> Group | Progress:
        return Group(self._tree(), self._progress) if self._stages else self._progress

    def _tree(self) -> Text:
        return Text(tree_text(self._stages, time.monotonic(), _LINES))
