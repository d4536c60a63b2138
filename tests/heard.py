"""A watcher that keeps what it is told."""

from __future__ import annotations

from dataclasses import dataclass

from vgg_deploy.pipeline.watch import Silent


@dataclass
class Step:
    """A step as it was begun, and how far it came."""

    what: str
    total: int | None
    unit: str
    seconds: float | None
    done: int = 0


class Heard(Silent):
    """What is said, and every step."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[Step] = []

    def begin(
        self, what: str, total: int | None = None, unit: str = "", *, seconds: float | None = None
    ) -> None:
        self.steps.append(Step(what, total, unit, seconds))

    def advance(self, done: int = 1) -> None:
        self.steps[-1].done += done

    def say(self, text: str) -> None:
        self.said.append(text)
