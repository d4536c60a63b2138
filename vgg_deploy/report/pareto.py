"""Which of several costs beat which: shared by the choice and the plot of it."""

from __future__ import annotations

from collections.abc import Sequence


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether ``one`` is as good in every cost and better in some; less is better in each."""
    return tuple(one) != tuple(other) and all(a <= b for a, b in zip(one, other, strict=True))
