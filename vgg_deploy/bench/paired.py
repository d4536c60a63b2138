"""Ratios of latencies with a 95 % interval: pure arithmetic on stored samples.

Latency is skewed and scales with its level, so logarithms are compared: the mean of the log ratios
of paired blocks, or the log ratio of two runs' medians, with Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median, variance
from typing import Literal

from vgg_deploy.results import FEWEST_BLOCKS, Contest

LEVEL = 0.95
_PARTS = 20  # a stored run is cut into so many consecutive parts
Word = Literal["faster", "slower", "no difference shown"]


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A latency over the yardstick's, and where it lies with 95 % confidence."""

    ratio: float
    low: float
    high: float
    blocks: int

    @property
    def word(self) -> Word:
        """What the interval allows to say."""
        if self.high < 1:
            return "faster"
        return "slower" if self.low > 1 else "no difference shown"


def ratios(contest: Contest) -> tuple[Ratio, ...]:
    """Every contender over the first one, from paired blocks.

    With several contenders each interval is wider, so that all of them hold at once with 95 %
    (Bonferroni).
    """
    others = len(contest.subjects) - 1
    return tuple(paired(_log_ratios(contest, i), others) for i in range(1, others + 1))


def _log_ratios(contest: Contest, place: int) -> list[float]:
    """Per round, or per block where there was only one round.

    Blocks of one round share their sessions, whose memory lies where it lies: they are not
    independent of each other.
    """
    rounds: dict[int, list[float]] = {}
    for block in contest.blocks:
        ratio = math.log(block.medians_ns[place] / block.medians_ns[0])
        rounds.setdefault(block.round, []).append(ratio)
    if len(rounds) == 1:
        return next(iter(rounds.values()))
    return [fmean(values) for values in rounds.values()]


def paired(logs: Sequence[float], comparisons: int = 1) -> Ratio:
    """The interval of a mean of log ratios; ``ValueError`` for fewer than five."""
    if len(logs) < FEWEST_BLOCKS:
        raise ValueError(f"{len(logs)} blocks are too few for an interval")
    level = 1 - (1 - LEVEL) / comparisons
    half = t_quantile(level, len(logs) - 1) * math.sqrt(variance(logs) / len(logs))
    return _ratio(fmean(logs), half, len(logs))


def unpaired(
    old: Sequence[int], new: Sequence[int], run_to_run: float, comparisons: int = 1
) -> Ratio | None:
    """p50 of ``new`` over that of ``old``, two runs at different times; None for too few samples.

    ``run_to_run`` is the relative standard deviation of the median from one run to the next,
    which no single run can show; it is added to what the samples show (Welch's interval). With
    several ``comparisons`` all intervals hold at once with 95 % (Bonferroni).
    """
    if min(len(old), len(new)) < FEWEST_BLOCKS:
        return None
    (va, a), (vb, b) = _spread(old), _spread(new)
    within = va + vb
    freedom = within**2 / (va**2 / (a - 1) + vb**2 / (b - 1)) if within else 1.0
    level = 1 - (1 - LEVEL) / comparisons
    t = t_quantile(level, max(1, math.floor(freedom))) if within else 0.0
    z = t_quantile(level, 1000)
    half = math.hypot(t * math.sqrt(within), z * math.sqrt(2) * run_to_run)
    return _ratio(_log_median(new) - _log_median(old), half, min(a, b))


@cache
def t_quantile(level: float, freedom: int) -> float:
    """The t that ``|T|`` stays below with probability ``level``, Student's distribution.

    By bisection of the closed form (Abramowitz and Stegun, 26.7.3 and 26.7.4); scipy would be
    100 MB for this one number.
    """
    low, high = 0.0, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < level else (low, middle)
    return (low + high) / 2


def _within(t: float, freedom: int) -> float:
    """P(|T| < t)."""
    angle = math.atan(t / math.sqrt(freedom))
    square = math.cos(angle) ** 2
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = 0.0 if freedom == 1 else term
    for k in range(2 + odd, freedom - 1, 2):
        term *= square * (k - 1) / k
        total += term
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total


def _spread(samples: Sequence[int]) -> tuple[float, int]:
    """Variance of the log median, from consecutive parts; and how many parts.

    Neighbours in time are alike, parts hardly are. Only the width comes from them: with a tail to
    the right the median of a part lies above that of the whole run, more so the smaller the part.
    """
    size = len(samples) // _PARTS
    size = max(1, size - 1 + size % 2)  # odd: the median of 2 is a mean, and varies as little
    parts = [samples[i : i + size] for i in range(0, len(samples) - size + 1, size)]
    logs = [_log_median(part) for part in parts]
    # of normal noise, a median of many varies π/2 times as much as a mean; of an odd n a bit less
    small = 1 + (math.pi / 2 - 1) / size
    return small * variance(logs) / len(logs), len(logs)


def _log_median(samples: Sequence[int]) -> float:
    return math.log(max(1.0, median(samples)))


def _ratio(centre: float, half: float, blocks: int) -> Ratio:
    return Ratio(
        ratio=math.exp(centre),
        low=math.exp(centre - half),
        high=math.exp(centre + half),
        blocks=blocks,
    )
