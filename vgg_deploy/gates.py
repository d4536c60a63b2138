"""Conditions that make a command fail: ``--fail-if "p99_ms>20"``, one figure beside one number."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from vgg_deploy.errors import UsageError, unknown_choice

_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_SHAPE = re.compile(r"\s*([A-Za-z_]\w*)\s*(>=|<=|>|<)\s*(\S+)\s*")


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Fails where ``name operator limit`` holds."""

    name: str
    operator: str
    limit: float

    @property
    def text(self) -> str:
        """The condition as one would type it: ``p99_ms>20``."""
        return f"{self.name}{self.operator}{self.limit:g}"

    def trips(self, value: float | None) -> bool:
        """Whether a figure fails; one that is not known or not finite never passes."""
        if value is None or not math.isfinite(value):
            return True
        return _OPERATORS[self.operator](value, self.limit)


def parse_gate(text: str, known: Collection[str]) -> Gate:
    """A condition on one of the ``known`` figures; ``UsageError`` for anything else."""
    found = _SHAPE.fullmatch(text)
    if not found:
        raise UsageError(
            f"{text!r} is not a condition",
            f'write a figure, > < >= or <=, and a number, for example "{min(known)}>1"',
        )
    name, sign, number = found.groups()
    if name not in known:
        raise unknown_choice("figure", name, sorted(known))
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        raise UsageError(f"{number!r} in {text!r} is not a number", f'for example "{name}{sign}1"')
    return Gate(name=name, operator=sign, limit=limit)


def parse_gates(texts: Iterable[str] | None, known: Collection[str]) -> tuple[Gate, ...]:
    """All conditions of a command line, in order."""
    return tuple(parse_gate(text, known) for text in texts or ())
