"""In which order the outputs of an app hold the reference's classes, and how that is told."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np

from vgg_deploy.errors import and_more, counted
from vgg_deploy.verify.mistakes import Floats

_CLEARLY = 4.0  # times nearer, as a squared distance, another class must be than an output's own
_MOST = 0.9  # of the classes found, each once: an order, though noise hides the rest of it
_NAMED = 6  # outputs that are named one by one
_LETTERS = 40  # of a label


def nearest(have: Floats, want: Floats) -> list[int]:
    """For each row of ``have`` the nearest row of ``want``."""
    return [int(np.argmin(((want - row) ** 2).sum(axis=1))) for row in have]


def order_of_classes(have: Floats, want: Floats, noise: float) -> list[int] | None:
    """For each output the class whose numbers it holds, of ``[N, classes]``; None for no order.

    An output keeps its own class where no number is off by more than ``noise``, or no other class
    is clearly nearer: classes with equal numbers cannot be told apart.
    """
    outputs, classes = have.T, want.T
    own = ((outputs - classes) ** 2).sum(axis=1)
    least = ((outputs - classes[nearest(outputs, classes)]) ** 2).sum(axis=1)
    right = (np.abs(outputs - classes).max(axis=1) <= noise) | (own <= _CLEARLY * least)
    moved = np.flatnonzero(~right)
    found = np.arange(len(classes))
    found[moved] = moved[nearest(outputs[moved], classes[moved])]
    unmoved = np.array_equal(found, np.arange(len(classes)))
    if unmoved or len(set(found[moved])) <= _MOST * len(moved):
        return None
    return [int(c) for c in found]


def order_told(found: Sequence[int], labels: Sequence[str]) -> str:
    """The order in words; empty where some class is found twice."""
    count = len(found)
    if len(set(found)) < count:
        return ""
    moved = [i for i in range(count) if found[i] != i]
    if len(moved) > 2 and (whole := _rule(list(found), labels)):
        return whole
    if len(moved) == 2:
        return f"{_class(moved[0], labels)} and {_class(moved[1], labels)} are exchanged"
    named = [f"output {_class(i, labels)} holds class {_class(found[i], labels)}" for i in moved]
    return and_more(named, _NAMED)


def _rule(found: list[int], labels: Sequence[str]) -> str:
    """What orders all classes; empty where it is no usual rule."""
    own = range(len(found))
    if found == [*reversed(own)]:
        return "the last one comes first"
    if found == [(i + found[0]) % len(own) for i in own]:
        places, where = min((found[0], "after"), (len(own) - found[0], "before"))
        away = counted(places, "place")
        return f"each output holds the class {away} {where} its own, around the end"
    if found == sorted(own, key=str):
        return "their numbers are sorted as text (0, 1, 10, 2)"
    return "they are sorted by label" if found == sorted(own, key=labels.__getitem__) else ""


def _class(index: int, labels: Sequence[str]) -> str:
    """A number, with the label where it says more."""
    label = textwrap.shorten(labels[index], _LETTERS, placeholder=" …")
    return str(index) if label in ("", str(index), f"class {index}") else f"{index} ({label})"
