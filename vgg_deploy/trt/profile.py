"""Optimization profiles: which batch sizes an engine takes and which it was tuned for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from vgg_deploy.errors import UsageError

LARGEST = 65_536  # a typing error beyond this


@dataclass(frozen=True)
class Profile:
    """Batch sizes ``low`` to ``high``; the kernels are chosen for ``best``."""

    low: int
    best: int
    high: int

    def __post_init__(self) -> None:
        if self.high > LARGEST:
            raise UsageError(f"batch profile {self}", f"give at most {LARGEST:,} images in a batch")
        if not 1 <= self.low <= self.best <= self.high:
            raise UsageError(
                f"batch profile {self}",
                "write --batch smallest:best:largest in rising order from 1, such as 1:8:64",
            )

    def __str__(self) -> str:
        return f"{self.low}:{self.best}:{self.high}"

    @property
    def sizes(self) -> tuple[int, int, int]:
        """As the manifest holds it."""
        return (self.low, self.best, self.high)


DEFAULT = (Profile(1, 8, 64),)


def parse_profiles(texts: Sequence[str]) -> tuple[Profile, ...]:
    """``"1:8:64"``, or ``"8"`` for one fixed size; ``UsageError`` for anything else."""
    profiles = []
    for text in texts:
        if not re.fullmatch(r"\d{1,9}(:\d{1,9}:\d{1,9})?", text):
            raise UsageError(
                f"batch profile {text!r}",
                "write --batch smallest:best:largest, such as 1:8:64, or one size",
            )
        sizes = [int(part) for part in text.split(":")]
        profiles.append(Profile(*(sizes * 3 if len(sizes) == 1 else sizes)))
    return tuple(dict.fromkeys(profiles)) or DEFAULT


def choose(profiles: Sequence[Profile], batch: int) -> int | None:
    """Index of the profile tuned nearest to ``batch`` among those that take it; None: none does."""
    fitting = [i for i, p in enumerate(profiles) if p.low <= batch <= p.high]
    if not fitting:
        return None
    return min(fitting, key=lambda i: (abs(math.log(profiles[i].best / batch)), i))
