"""How long work tells its progress, without knowing who looks."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Somebody who is told what happens; the command line draws it."""

    def begin(self, what: str, total: int | None = None, unit: str = "") -> None:
        """A step starts; ``total`` units of work, if that is known."""
        ...

    def advance(self, done: int = 1) -> None:
        """So many units of the current step are done."""
        ...

    def say(self, text: str) -> None:
        """One line that stays: a step was finished, reused, skipped, and why."""
        ...


class Silent:
    """Nobody looks."""

    def begin(self, what: str, total: int | None = None, unit: str = "") -> None:
        """Ignore it."""

    def advance(self, done: int = 1) -> None:
        """Ignore it."""

    def say(self, text: str) -> None:
        """Ignore it."""
