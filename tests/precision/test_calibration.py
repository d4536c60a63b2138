"""Histograms that grow, and thresholds that follow the theory."""

from __future__ import annotations

import numpy as np
import pytest

from vgg_deploy.precision.calibration import entropy_threshold
from vgg_deploy.precision.observe import BINS, Histogram

RANDOM = np.random.default_rng(0)


def histogram_of(*batches: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(batch)
    return histogram


def test_growing_keeps_every_count() -> None:
    values = [RANDOM.normal(scale=scale, size=999).astype(np.float32) for scale in (1, 10, 0.1, 80)]
    histogram = histogram_of(*values)
    everything = np.abs(np.concatenate(values))
    assert histogram.largest == everything.max()
    assert histogram.top >= histogram.largest
    expected = np.histogram(everything, BINS, range=(0, histogram.top))[0]
    assert histogram.counts.sum() == len(everything)
    assert np.abs(np.cumsum(histogram.counts - expected)).max() <= 2, "edges may round"


def test_zeros_and_signs() -> None:
    histogram = histogram_of(np.array([0, 0, -2, 1], np.float32), np.zeros(3, np.float32))
    assert (histogram.counts.sum(), histogram.largest) == (2, 2.0)
    assert histogram_of(np.zeros(3, np.float32)).largest == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_infinite(bad: float) -> None:
    values = np.array([1, bad], np.float32)
    assert histogram_of(values, np.ones(2, np.float32)).largest == np.inf


def test_uniform_values_are_not_clipped() -> None:
    histogram = histogram_of(RANDOM.uniform(0, 3, 200_000).astype(np.float32))
    assert entropy_threshold(histogram) == pytest.approx(3, rel=0.02)


def test_a_lonely_outlier_is_clipped() -> None:
    values = np.abs(RANDOM.normal(size=200_000)).astype(np.float32)
    values[0] = 100
    threshold = entropy_threshold(histogram_of(values))
    assert 2 < threshold < 12, "128 levels over 100 would leave 5 for what matters"


def test_nothing_seen_is_no_division_by_zero() -> None:
    assert entropy_threshold(Histogram()) == 0


def test_never_above_the_largest_value() -> None:
    histogram = histogram_of(np.array([1, 1.5], np.float32), np.array([2.5], np.float32))
    assert entropy_threshold(histogram) <= 2.5
