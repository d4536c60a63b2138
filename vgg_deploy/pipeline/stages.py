"""The stages of a job as a tree: kept while it runs, drawn live, and left as text in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

from vgg_deploy.pipeline.watch import Watcher
from vgg_deploy.report.quantities import duration

State = Literal["running", "done", "failed"]
SIGNS: dict[State, str] = {"running": "…", "done": "✓", "failed": "✗"}


@dataclass
class Stage:
    """One part of a job, with the lines that were said in it."""

    name: str
    started: float
    state: State = "running"
    ended: float | None = None
    lines: list[str] = field(default_factory=list)

    def seconds(self, now: float) -> float:
        """How long it took, or has taken so far."""
        return (now if self.ended is None else self.ended) - self.started


def tree_text(stages: Sequence[Stage], now: float, last: int | None = None) -> str:
    """The stages with their lines; with ``last`` only so many lines of each, the newest."""
    drawn: list[str] = []
    for place, stage in enumerate(stages):
        end = place == len(stages) - 1
        took = duration(stage.seconds(now))
        drawn.append(f"{'└─' if end else '├─'} {SIGNS[stage.state]} {stage.name}, {took}")
        stem = "   " if end else "│  "
        lines = stage.lines if last is None else stage.lines[-last:] if last else []
        for number, line in enumerate(lines):
            drawn.append(f"{stem}{'└─' if number == len(lines) - 1 else '├─'} {line}")
    return "\n".join(drawn)


class Recorder:
    """A watcher that keeps the stages and passes everything on to another one."""

    def __init__(self, watch: Watcher, clock: Callable[[], float] = time.monotonic) -> None:
        self._watch, self._clock = watch, clock
        self.stages: list[Stage] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A new stage; it fails when the block raises."""
        stage = Stage(name, self._clock())
        self.stages.append(stage)
        try:
            with self._watch.stage(name):
                yield
        except BaseException as error:
            stage.state = "failed"
            first = next(iter(str(error).splitlines()), "")
            stage.lines.append(first or type(error).__name__)
            raise
        else:
            stage.state = "done"
        finally:
            stage.ended = self._clock()

    def begin(
        self, what: str, total: int | None = None, unit: str = "", *, seconds: float | None = None
    ) -> None:
        """Pass it on."""
        self._watch.begin(what, total, unit, seconds=seconds)

    def advance(self, done: int = 1) -> None:
        """Pass it on."""
        self._watch.advance(done)

    def say(self, text: str) -> None:
        """Keep the line in its stage, and pass it on."""
        if self.stages:
            self.stages[-1].lines.append(text)
        self._watch.say(text)

    def undisturbed(self) -> AbstractContextManager[None]:
        """Pass it on."""
        return self._watch.undisturbed()

    def text(self) -> str:
        """The whole tree."""
        return tree_text(self.stages, self._clock())
