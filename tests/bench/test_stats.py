"""Statistics of raw latencies against numpy and the standard library."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgg_deploy.bench.stats import MIN_QUERIES, NS, summarise

MS = 1_000_000  # nanoseconds
SAMPLES = st.lists(st.integers(1, 10**11), min_size=2, max_size=800)


def test_only_what_the_sample_supports() -> None:
    stats = summarise([(i + 1) * MS for i in range(100)], batch=4)
    assert stats.p50 == pytest.approx(0.0505)
    assert stats.p90 is not None
    assert stats.p95 is None
    assert stats.p99 is None
    assert stats.images_per_second == pytest.approx(4 / 0.0505)
    assert stats.spread == pytest.approx(0.2475 / 0.505)
    with pytest.raises(ValueError, match="no samples"):
        summarise([], batch=1)


@pytest.mark.parametrize(("percentile", "least"), MIN_QUERIES.items())
def test_the_least_number_of_queries(percentile: int, least: int) -> None:
    assert getattr(summarise([MS] * (least - 1), 1), f"p{percentile}") is None
    assert getattr(summarise([MS] * least, 1), f"p{percentile}") == pytest.approx(0.001)


@given(SAMPLES)
def test_agrees_with_the_standard_library(samples: list[int]) -> None:
    stats = summarise(samples, batch=2)
    mean = statistics.fmean(samples)
    assert stats.queries == len(samples)
    assert stats.mean == pytest.approx(mean / NS)
    assert stats.cv == pytest.approx(statistics.stdev(samples) / mean, abs=1e-9)
    assert stats.images_per_second == pytest.approx(2 * NS / mean)


@given(SAMPLES)
def test_percentiles_rise_and_lie_within_the_samples(samples: list[int]) -> None:
    stats = summarise(samples, batch=1)
    found = [p for p in (stats.p50, stats.p90, stats.p95, stats.p99) if p is not None]
    assert found == sorted(found)
    for value in found:
        assert min(samples) / NS * (1 - 1e-12) <= value <= max(samples) / NS * (1 + 1e-12)


def test_an_outlier_moves_the_cv_but_not_the_spread() -> None:
    calm = summarise([MS + i for i in range(100)], batch=1)
    hit = summarise([*(MS + i for i in range(99)), 1000 * MS], batch=1)
    assert hit.cv > 1 > calm.cv
    assert hit.spread == pytest.approx(calm.spread, rel=0.1)


def test_one_sample_has_no_spread() -> None:
    stats = summarise(np.array([MS]).tolist(), batch=1)
    assert (stats.cv, stats.spread, stats.p50) == (0, 0, None)
