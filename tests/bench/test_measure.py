"""The timing loop on a clock that the test moves."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vgg_deploy.bench.clock import HostStopwatch
from vgg_deploy.bench.load import Load
from vgg_deploy.bench.measure import Instruments, MeasureOptions, measure
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
        self.clock.now += 12 * MS  # transfers included
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
    using = instruments(clock, look=look, **{k: options.pop(k) for k in ("tick",) if k in options})
    return measure(session, np.zeros(1), MeasureOptions(**options), using)


def ticks(durations: list[int], **options: Any) -> list[tuple[float, float]]:
    """What is told: the seconds since the last time, and those left."""
    told: list[tuple[float, float]] = []
    measured(durations, tick=lambda seconds, left: told.append((seconds, left)), **options)
    return told


def instruments(clock: Clock, **given: Any) -> Instruments:
    return Instruments(stopwatch=HostStopwatch(now=clock), now=clock, **given)


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


def test_a_warm_up_window_lasts_even_when_runs_are_short() -> None:
    assert measured([1 * MS], min_seconds=0.1).warmup_runs == 2 * 50


def test_what_never_settles_is_said() -> None:
    growing = [int(10 * MS * 1.1**k) for k in range(60)]
    found = measured([*growing, *growing[::-1], *growing], min_seconds=0.1)
    assert "not stable after 5 s of warm-up" in found.marks


@pytest.mark.parametrize(("ms", "runs"), [(1_200, 10), (2_000, 6), (30_000, 2)])
def test_runs_that_fill_the_warm_up_can_be_warm_too(ms: int, runs: int) -> None:
    found = measured([ms * MS], min_seconds=1, max_seconds=2)
    assert found.warmup_runs == runs
    assert not any("warm-up" in mark for mark in found.marks)
    cooling = measured([ms * MS] * (runs // 2) + [2 * ms * MS], min_seconds=1, max_seconds=2)
    assert "not stable after 5 s of warm-up" in cooling.marks


def test_calls_from_host_to_host_are_timed_apart() -> None:
    found = measured([10 * MS], min_seconds=1)
    assert set(found.end_to_end_ns) == {12 * MS}
    assert len(found.end_to_end_ns) == 28  # a third of the time
    assert (found.burst_runs, found.burst_ns) == (0, 0)  # nothing to enqueue on a host


def test_drift_is_said() -> None:
    found = measured([10 * MS] * 60 + [12 * MS] * 1000, min_seconds=1)
    assert "drifting: 20 % slower at the end than at the start" in found.marks


def test_who_watches_is_told_the_time_between_runs() -> None:
    told = ticks([10 * MS], min_seconds=1)
    assert [seconds for seconds, _ in told] == pytest.approx([0.25, 0.25, 0.25, 0.252])
    left = 1 + 1 / 3 - np.array([0.25, 0.5, 0.75])  # runs, and calls after them
    assert [left for _, left in told] == pytest.approx([*left, 1 / 3 - 0.252])


@pytest.mark.parametrize(
    ("ms", "left"),
    [(400, 64 * 0.4 - 0.4 + 10 * 0.4), (10_000, 60 - 10 + 20)],
)
def test_the_time_left_of_a_slow_session_is_that_of_its_queries(ms: int, left: float) -> None:
    assert ticks([ms * MS], min_seconds=1)[0] == pytest.approx((ms / 1000, left))


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


def test_rare_long_stops_are_said() -> None:
    """Their quartiles stay together, as a program that takes the core now and then leaves them."""
    found = measured([10 * MS] * 30 + ([10 * MS] * 19 + [210 * MS]) * 30, min_seconds=10)
    assert found.marks == ("uneven: the mean is 2.0 times the median",)


def test_a_timing_lasts_until_the_counters_tell_who_else_ran() -> None:
    def looked(busy: float) -> Callable[[], Load]:
        clocked = iter([0, 1])  # a core of somebody else from the first look to the second
        return lambda: Load(wall=(turn := next(clocked)), busy=busy * turn, own=0)

    found = measured([10 * MS], min_seconds=0.02, percentile=50, look=looked(1.0))
    spent = sum(found.samples_ns) + sum(found.end_to_end_ns)
    assert 0.5e9 < spent < 0.7e9
    assert "not alone: other programs used 1.0 cores meanwhile" in found.marks
    short = measured([10 * MS], min_seconds=0.02, percentile=50)  # no counters: as it was asked
    assert sum(short.samples_ns) == 10 * 10 * MS


def test_other_programs_are_said() -> None:
    looks = iter(
        [Load(wall=0, busy=100, own=10), Load(wall=4, busy=108, own=14)]  # 8 s busy, 4 s our own
    )
    found = measured([10 * MS], min_seconds=1, look=lambda: next(looks))
    assert found.marks == ("not alone: other programs used 1.0 cores meanwhile",)


@pytest.mark.parametrize(("stopped", "told"), [(1, False), (2, True)])
def test_a_container_that_is_stopped_is_said(stopped: int, told: bool) -> None:
    quiet = Load(wall=0, busy=0, own=0, periods=50, stopped=7)
    looks = iter([quiet, replace(quiet, wall=4, periods=150, stopped=7 + stopped)])
    found = measured([10 * MS], min_seconds=1, look=lambda: next(looks))
    mark = "throttled: the container's processor limit struck in 2% of its periods"
    assert found.marks == ((mark,) if told else ())


def test_who_comes_while_the_calls_are_timed_is_seen() -> None:
    """A neighbour on two cores from the first call on; the runs before it were alone."""
    clock, busy_from = Clock(), 10**18

    class Called(FakeSession):
        def __call__(self, batch: NDArray[Any], /) -> NDArray[Any]:
            nonlocal busy_from
            busy_from = min(busy_from, clock.now)
            return super().__call__(batch)

    def look() -> Load:
        return Load(wall=clock.now / 1e9, busy=2 * max(0, clock.now - busy_from) / 1e9, own=0)

    session = Called(clock, [10 * MS])
    found = measure(
        session, np.zeros(1), MeasureOptions(min_seconds=1), instruments(clock, look=look)
    )
    assert found.marks == ("not alone: other programs used 0.5 cores meanwhile",)  # of 4/3 s


class Looks:
    """A probe that keeps when it was asked."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.at_ns = clock, list[int]()

    def look(self) -> None:
        self.at_ns.append(self.clock.now)

    def seen(self) -> None:
        return None


def test_the_gpu_is_looked_at_after_the_burst_and_between_calls() -> None:
    clock = Clock()
    probe = Looks(clock)
    using = Instruments(
        stopwatch=HostStopwatch(now=clock, name="cuda-events"),
        now=clock, look=lambda: None, probe=probe,
    )  # fmt: skip
    options = MeasureOptions(min_seconds=3)
    found = measure(FakeSession(clock, [10 * MS]), np.zeros(1), options, using)
    called_ns = clock.now - sum(found.end_to_end_ns)
    timed_ns = called_ns - found.burst_ns
    burst = [at for at in probe.at_ns if timed_ns < at <= called_ns]
    calls = [at for at in probe.at_ns if called_ns < at]
    assert burst == [called_ns]
    assert len(calls) == 4  # a second of calls, every quarter
    assert calls[-1] == clock.now


def test_a_run_that_breaks_leaves_garbage_collection_on() -> None:
    class Broken(FakeSession):
        def sync(self) -> None:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        measure(Broken(Clock(), [1]), np.zeros(1), MeasureOptions(), Instruments())
    assert gc.isenabled()


def test_options_that_cannot_be() -> None:
    with pytest.raises(UsageError):
        MeasureOptions(percentile=42)
    with pytest.raises(UsageError):
        MeasureOptions(min_seconds=0)
