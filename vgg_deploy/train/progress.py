"""Draw training on stderr: a bar with examples/s and the time left, a line per epoch."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vgg_deploy.train.options import EpochRow, RunPlan


class RichListener:
    """A ``Listener`` for people: ``with RichListener() as listener: train(..., listener)``.

    Without a terminal there is no bar, only the lines.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=False),
            console=self._console,
            transient=True,
        )
        self._task = self._bar.add_task("training", total=None, detail="", visible=False)
        self._plan: RunPlan | None = None
        self._started = 0.0
        self._loss: float | None = None

    def __enter__(self) -> RichListener:
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._bar.stop()

    def on_start(self, plan: RunPlan, /) -> None:
        """Say what is going to happen."""
        self._plan, self._started = plan, time.monotonic()
        self._say(
            f"training on {plan.device} in {plan.precision}: {plan.parameters:,} parameters, "
            f"{plan.train_images:,} images, {plan.epochs} epochs, batch {plan.batch}"
        )
        total = plan.epochs * plan.train_images
        self._bar.update(self._task, total=total, visible=True)

    def on_step(self, done_images: int, total_images: int, loss: float | None, /) -> None:
        """Move the bar."""
        self._loss = loss if loss is not None else self._loss
        rate = done_images / max(time.monotonic() - self._started, 1e-9)
        shown = "" if self._loss is None else f"  loss {self._loss:.3f}"
        epoch = self._epoch(done_images)
        self._bar.update(
            self._task,
            completed=done_images,
            total=total_images,
            description=f"epoch {epoch}",
            detail=f"{rate:,.0f} examples/s{shown}",
        )

    def on_epoch(self, row: EpochRow, /) -> None:
        """A line per epoch."""
        of = f"/{self._plan.epochs}" if self._plan else ""
        self._say(
            f"epoch {row.epoch}{of}: loss {row.loss:.3f}, train {row.train_accuracy:.3f}, "
            f"test {row.test_accuracy:.4f}, {row.examples_per_second:,.0f} examples/s, "
            f"{row.seconds:.0f} s"
        )

    def _epoch(self, done_images: int) -> str:
        if self._plan is None:
            return "?"
        current = min((done_images - 1) // self._plan.train_images + 1, self._plan.epochs)
        return f"{current}/{self._plan.epochs}"

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)
