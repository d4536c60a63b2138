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


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The limits that make sense for a figure; others are a mistake in the unit."""

    unit: str  # completes "top1 is"
    above: float = -math.inf
    least: float = -math.inf  # that the figure can be: nothing is below it
    most: float = math.inf

    def fits(self, sign: str, limit: float) -> bool:
        """Whether a figure in this unit could be beyond the limit and could be within it."""
        never = limit < self.least or (limit == self.least and sign == "<")
        return self.above < limit <= self.most and not never


_POINTS = Scale(unit="in points, 0 to 100", above=1, most=100)  # below 1 it is a share
_DROP = Scale(unit="in points, -100 to 100", above=-100, most=100)
_SHARE = Scale(unit="a number from 0 to 1", least=0, most=1)
_COSINE = Scale(unit="a number from -1 to 1", least=-1, most=1)
_CV = Scale(unit="a fraction of the mean, 0.05 for 5 %", least=0, most=2)
_COUNTED = Scale(unit="0 or more", least=0)
_SCALES: Mapping[str, Scale] = {
    "top1": _POINTS,
    "top1_low": _POINTS,
    "top1_high": _POINTS,
    "top1_drop": _DROP,
    "top1_drop_high": _DROP,
    "top5_drop": _DROP,
    "top5_agreement": _SHARE,
    "cosine": _COSINE,
    "cv": _CV,
}
_COUNTS = ("_ms", "_mb", "_per_s", "_flips", "_spread", "ratio", "ratio_low", "ratio_high",
           "rel_l2", "max_abs")  # fmt: skip


def parse_gate(text: str, known: Collection[str]) -> Gate:
    """A condition on one of the ``known`` figures; ``UsageError`` for anything else.

    Refuses a limit that can only be meant in another unit, such as ``top1<0.9``.
    """
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
    scale = _SCALES.get(name, _COUNTED if name.endswith(_COUNTS) else None)
    if scale and not scale.fits(sign, limit):
        raise UsageError(f"{name} is {scale.unit}: {number} is no limit for it",
                         "give the limit in that unit")  # fmt: skip
    return Gate(name=name, operator=sign, limit=limit)


def parse_gates(texts: Iterable[str] | None, known: Collection[str]) -> tuple[Gate, ...]:
    """All conditions of a command line, in order."""
    return tuple(parse_gate(text, known) for text in texts or ())
