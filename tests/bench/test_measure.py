"""The timing loop on a clock that the test moves."""

from __future__ import annotations

import gc
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vgg_deploy.bench.load import Load
from vgg_deploy.bench.measure import MeasureOptions, measure
from vgg_deploy.bench.stats import MIN_QUERIES
from vgg_deploy.errors import UsageError

MS = 1_000_000  # nanoseconds


class Clock:
    """Stands still unless a session moves it."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


class FakeSession:
    """Takes the planned time for each run; the last duration repeats."""

    def __init__(self, clock: Clock, durations: list[int]) -> None:
        self.clock, self.durations, self.runs, self.pending = clock, durations, 0, 0

    def __call__(self, batch: NDArray[Any], /) -> NDArray[Any]:
        return batch

    def bind(self, batch: NDArray[Any], /) -> Callable[[], None]:
        def run() -> None:
            self.pending = self.durations[min(self.runs, len(self.durations) - 1)]
            self.runs += 1

        return run

    def sync(self) -> None:  # the time passes here, as on a device
        self.clock.now += self.pending


def measured(durations: list[int], **options: Any) -> Any:
    clock = Clock()
    session = FakeSession(clock, durations)
    look = options.pop("look", lambda: None)  # whoever runs beside the tests does not matter
    return measure(session, np.zeros(1), MeasureOptions(**options), clock, look)


def test_what_is_waited_for_is_timed() -> None:
    found = measured([10 * MS], min_seconds=1)
    assert set(found.samples_ns) == {10 * MS}
    assert len(found.samples_ns) == 100
    assert found.marks == ()


def test_warm_up_lasts_until_it_is_stable() -> None:
    slow_start = [50 * MS] * 5 + [30 * MS] * 5 + [10 * MS]
    found = measured(slow_start, min_seconds=0.1)
    assert found.warmup_runs == 20
    assert set(found.samples_ns) == {10 * MS}


@pytest.mark.parametrize("percentile", MIN_QUERIES)
def test_enough_queries_for_the_percentile(percentile: int) -> None:
    found = measured([10 * MS], min_seconds=0.01, percentile=percentile)
    assert len(found.samples_ns) == MIN_QUERIES[percentile]


def test_too_slow_for_the_percentile_is_said() -> None:
    found = measured([10_000 * MS], min_seconds=1, max_seconds=60, percentile=99)
    assert any("too few for p99" in mark for mark in found.marks)


def test_noise_is_said() -> None:
    found = measured([10 * MS, 30 * MS] * 500, min_seconds=1)
    assert any(mark.startswith("noisy") for mark in found.marks)


def test_other_programs_are_said() -> None:
    looks = iter(
        [Load(wall=0, busy=100, own=10), Load(wall=4, busy=108, own=14)]  # 8 s busy, 4 s our own
    )
    found = measured([10 * MS], min_seconds=1, look=lambda: next(looks))
    assert found.marks == ("not alone: other programs used 1.0 cores meanwhile",)


def test_a_run_that_breaks_leaves_garbage_collection_on() -> None:
    class Broken(FakeSession):
        def sync(self) -> None:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        measure(Broken(Clock(), [1]), np.zeros(1), MeasureOptions())
    assert gc.isenabled()


def test_the_loop_itself_costs_little() -> None:
    class Nothing(FakeSession):
        def bind(self, batch: NDArray[Any], /) -> Callable[[], None]:
            return lambda: None

    session = Nothing(Clock(), [0])
    found = measure(session, np.zeros(1), MeasureOptions(min_seconds=0.05, max_seconds=0.05))
    assert median(found.samples_ns) < 5_000


def test_options_that_cannot_be() -> None:
    with pytest.raises(UsageError):
        MeasureOptions(percentile=42)
    with pytest.raises(UsageError):
        MeasureOptions(min_seconds=0)
