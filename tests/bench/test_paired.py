"""Intervals against tables and against simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median

import numpy as np
import pytest
from numpy.typing import NDArray

from vgg_deploy.bench.paired import _spread, paired, t_quantile, unpaired

# Two-sided 95 %, from the printed table (Fisher and Yates).
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 29: 2.045,
         30: 2.042, 60: 2.000, 120: 1.980}  # fmt: skip


@pytest.mark.parametrize(("freedom", "t"), TABLE.items())
def test_quantiles_are_those_of_the_table(freedom: int, t: float) -> None:
    assert t_quantile(0.95, freedom) == pytest.approx(t, abs=6e-4)


def test_other_levels() -> None:
    assert t_quantile(0.99, 10) == pytest.approx(3.169, abs=6e-4)
    assert t_quantile(0.90, 7) == pytest.approx(1.895, abs=6e-4)
    assert t_quantile(0.95, 1000) == pytest.approx(1.962, abs=6e-4)


def test_a_constant_ratio_is_exact() -> None:
    found = paired([math.log(1.25)] * 10)
    assert (found.ratio, found.low, found.high) == pytest.approx((1.25, 1.25, 1.25))
    assert found.word == "slower"


def test_words_follow_the_interval() -> None:
    logs = [0.01, -0.02, 0.015, -0.01, 0.005, 0.0]
    assert paired(logs).word == "no difference shown"
    assert paired([x - 0.2 for x in logs]).word == "faster"
    assert paired([x + 0.2 for x in logs]).word == "slower"


def test_several_comparisons_widen_the_interval() -> None:
    logs = [0.01, -0.02, 0.015, -0.01, 0.005, 0.0]
    assert paired(logs, 3).high > paired(logs).high


def test_too_few_blocks_give_no_interval() -> None:
    with pytest.raises(ValueError, match="too few"):
        paired([0.1] * 4)
    assert unpaired([1] * 3, [1] * 100, 0.01) is None


def test_the_interval_holds_the_truth_in_95_of_100() -> None:
    random = np.random.default_rng(0)
    held = 0
    for _ in range(2000):
        found = paired(list(random.normal(math.log(1.03), 0.02, 12)))
        held += found.low <= 1.03 <= found.high
    assert 0.935 < held / 2000 < 0.965


def test_two_runs_are_further_apart_than_their_samples_show() -> None:
    random = np.random.default_rng(0)
    old = [int(x) for x in random.normal(1e6, 1e4, 400)]
    new = [int(x * 1.02) for x in random.normal(1e6, 1e4, 400)]
    bare = unpaired(old, new, 0.0)
    honest = unpaired(old, new, 0.01)
    assert bare is not None
    assert honest is not None
    assert bare.ratio == honest.ratio == pytest.approx(1.02, abs=0.003)
    assert bare.word == "slower"
    assert honest.word == "no difference shown"
    equal = unpaired(old, old, 0.01)
    assert equal is not None
    assert equal.high == pytest.approx(math.exp(1.96 * math.sqrt(2) * 0.01), abs=3e-3)


def normal(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    return np.exp(0.02 * random.standard_normal(count))


def tailed(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    """A fifth of the runs is disturbed, and takes twice as long in the mean."""
    late = np.where(random.random(count) < 0.2, 1 + random.exponential(1, count), 1)
    return normal(random, count) * late


def skewed(random: np.random.Generator, count: int) -> NDArray[np.float64]:
    return 1 + 0.15 * random.lognormal(0, 1.2, count)


@pytest.mark.parametrize("draw", [normal, tailed, skewed])
@pytest.mark.parametrize(("olds", "news"), [(521, 64), (64, 521), (3000, 30), (200, 20)])
def test_runs_of_unequal_length_and_equal_speed_are_told_as_equal(
    draw: Callable[[np.random.Generator, int], NDArray[np.float64]], olds: int, news: int
) -> None:
    """The samples alone, without a share for how much runs differ, in 300 pairs."""
    random = np.random.default_rng([olds, news])
    held = same = 0
    logs = []
    for _ in range(300):
        old = [int(1e7 * x) for x in draw(random, olds)]
        new = [int(1e7 * x) for x in draw(random, news)]
        found = unpaired(old, new, 0.0)
        assert found is not None
        same += found.ratio == pytest.approx(median(new) / median(old))
        held += found.low <= 1 <= found.high
        logs.append(math.log(found.ratio))
    assert same == 300  # what it is called: the ratio of the p50s
    assert held >= 273  # 285 are expected; fewer than 274 by chance in one of 1,000
    assert abs(np.mean(logs)) < 4 * np.std(logs) / math.sqrt(300)  # no bias


@pytest.mark.parametrize("count", [21, 40, 63, 80, 120])
def test_the_spread_of_a_median_is_what_it_is(count: int) -> None:
    random = np.random.default_rng(count)
    runs = (1e7 * np.exp(0.02 * random.standard_normal((3000, count)))).astype(int).tolist()
    estimated = np.mean([_spread(run)[0] for run in runs])
    assert estimated == pytest.approx(np.var(np.log(np.median(runs, axis=1))), rel=0.1)


def test_a_slower_run_is_found_whatever_the_lengths() -> None:
    random = np.random.default_rng(0)
    old = [int(1e7 * x) for x in tailed(random, 521)]
    new = [int(1.2e7 * x) for x in tailed(random, 64)]
    found = unpaired(old, new, 0.03)
    assert found is not None
    assert found.word == "slower"
    assert found.low < 1.2 < found.high
