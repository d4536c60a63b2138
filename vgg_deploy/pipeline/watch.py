"""How long work tells its progress, without knowing who looks."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Watcher(Protocol):
    """Somebody who is told what happens; the command line draws it."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """A part of a longer job, for as long as the block runs."""
        ...

    def begin(
        self, what: str, total: int | None = None, unit: str = "", *, seconds: float | None = None
    ) -> None:
        """A step starts: ``total`` units of work, or about ``seconds``, where that is known."""
        ...

    def advance(self, done: int = 1) -> None:
        """So many units of the current step are done."""
        ...

    def say(self, text: str) -> None:
        """One line that stays: a step was finished, reused, skipped, and why."""
        ...

    def undisturbed(self) -> AbstractContextManager[None]:
        """While the block runs, draw nothing unless told to: something is being timed."""
        ...


class Silent:
    """Nobody looks."""

    def stage(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Ignore it."""
        return nullcontext()

    def begin(
        self, what: str, total: int | None = None, unit: str = "", *, seconds: float | None = None
    ) -> None:
        """Ignore it."""

    def advance(self, done: int = 1) -> None:
        """Ignore it."""

    def say(self, text: str) -> None:
        """Ignore it."""

    def undisturbed(self) -> AbstractContextManager[None]:
        """Nothing to keep still."""
        return nullcontext()
