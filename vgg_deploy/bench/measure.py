"""The timing loop: one session, one resident input, one clock."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from statistics import median

from vgg_deploy.backends.base import Answering, Array, Session
from vgg_deploy.bench.answers import apart
from vgg_deploy.bench.clock import HostStopwatch, Now, Run, Stopwatch
from vgg_deploy.bench.load import LEAST_S, Load, between, cores_of_others, look, throttled_share
from vgg_deploy.bench.nvml import NoProbe, Probe
from vgg_deploy.bench.rules import marks_of
from vgg_deploy.bench.stats import MIN_QUERIES, NS
from vgg_deploy.errors import UsageError, unknown_choice
from vgg_deploy.results import Clock, GpuState

_WINDOW = 5  # fewest runs whose median is compared with that of the window before
_WINDOW_NS = 50e6  # and its least duration: caches and clocks settle in time, not in runs
_STABLE = 0.05  # relative change between two windows that counts as warm
MAX_WARMUP_S = 5.0
_TICK_NS = 0.25e9  # between two looks at the device and at who watches
_CALLS = 10  # fewest end-to-end calls: enough for a median
CALLS_SHARE = 1 / 3  # of the measuring time, on top
_WATCHED_S = 1.1 * LEAST_S / (1 + CALLS_SHARE)  # so that what others did meanwhile can be told


# Told the seconds since the last tick, and those that are left, as far as can be known.
Tick = Callable[[float, float], None]


@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """How long to measure one cell."""

    min_seconds: float = 3.0
    max_seconds: float = 60.0
    percentile: int = 90  # measure until this one can be quoted

    def __post_init__(self) -> None:
        if self.percentile not in MIN_QUERIES:
            raise unknown_choice("percentile", str(self.percentile), map(str, MIN_QUERIES))
        if not 0 < self.min_seconds <= self.max_seconds:
            raise UsageError(
                f"{self.min_seconds:g} s of measuring time",
                f"use more than 0 and at most {self.max_seconds:g} s",
            )


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Raw latencies in nanoseconds, and the rules they break."""

    clock: Clock
    samples_ns: tuple[int, ...]  # one run each, input resident, output not read
    end_to_end_ns: tuple[int, ...]  # host array in, host array out, by the host's clock
    burst_runs: int  # enqueued together, waited for once; 0 where runs are synchronous
    burst_ns: int
    warmup_runs: int
    others_cores: float | None
    gpu: GpuState | None
    apart: float | None  # last timed run from last call, relative L2; None: cannot be read
    marks: tuple[str, ...]


@dataclass(frozen=True)
class Instruments:
    """What a measurement reads besides the session; a test puts its own here."""

    stopwatch: Stopwatch = field(default_factory=HostStopwatch)
    probe: Probe = field(default_factory=NoProbe)
    now: Now = time.perf_counter_ns
    look: Callable[[], Load | None] = look
    tick: Tick | None = None


def measure(
    session: Session, batch: Array, options: MeasureOptions, using: Instruments | None = None
) -> Measurement:
    """Time single runs on an input that is placed once, then whole calls from host to host."""
    using = using or Instruments()
    run, sync = session.bind(batch), session.sync
    with no_garbage_collection():
        warmup, warm = warm_up(run, sync, using)
        before = using.look()
        options = _watchable(options, before)
        samples = _timed(run, sync, options, using)
        burst = _burst(run, sync, samples, using) if using.stopwatch.name != "host" else (0, 0)
        timed = session.output() if isinstance(session, Answering) else None
        calls, called = _calls(session, batch, options, using)
        spent = between(before, using.look())
    others = cores_of_others(spent)
    gpu = using.probe.seen()
    return Measurement(
        clock=using.stopwatch.name,
        samples_ns=tuple(samples),
        end_to_end_ns=tuple(calls),
        burst_runs=burst[0],
        burst_ns=burst[1],
        warmup_runs=warmup,
        others_cores=others,
        gpu=gpu,
        apart=None if timed is None else apart(timed, called),
        marks=marks_of(
            samples, clock=using.stopwatch.name, percentile=options.percentile,
            warm=warm, others=others, throttled=throttled_share(spent), gpu=gpu,
        ),
    )  # fmt: skip


def _watchable(options: MeasureOptions, before: Load | None) -> MeasureOptions:
    """Where the system counts what others do, long enough for its counters."""
    least = min(_WATCHED_S, options.max_seconds)
    if before is None or options.min_seconds >= least:
        return options
    return replace(options, min_seconds=least)


def warm_up(run: Run, sync: Run, using: Instruments) -> tuple[int, bool]:
    """Run until two windows agree; (runs, whether they did before the time was up)."""
    now, start, runs = using.now, using.now(), 0
    before: float | None = None
    while True:
        window = _window(run, sync, using)
        runs += len(window)
        middle = median(window)
        if before is not None:  # one window alone tells nothing, however long it took
            if abs(middle - before) <= _STABLE * before:
                return runs, True
            if now() - start >= MAX_WARMUP_S * NS:
                return runs, False
        before = middle


def _window(run: Run, sync: Run, using: Instruments) -> list[int]:
    """Some runs; fewer than usual, but one, where they are slow."""
    laps: list[int] = []
    opened = using.now()
    while True:
        laps.append(using.stopwatch.lap(run, sync))
        spent = using.now() - opened
        enough = len(laps) >= _WINDOW and not 0 < spent < _WINDOW_NS
        if enough or spent >= MAX_WARMUP_S * NS:
            return laps


def _timed(run: Run, sync: Run, options: MeasureOptions, using: Instruments) -> list[int]:
    samples: list[int] = []
    keep, lap, now = samples.append, using.stopwatch.lap, using.now
    needed = MIN_QUERIES[options.percentile]
    first = told = now()
    least, most = first + options.min_seconds * NS, first + options.max_seconds * NS
    using.probe.look()
    while True:
        keep(lap(run, sync))
        end = now()
        if (end >= least and len(samples) >= needed) or end >= most:
            using.probe.look()
            return samples
        if end - told >= _TICK_NS:  # between two runs, so that nothing of it is timed
            using.probe.look()
            if using.tick:
                calls = _length((end - first) / len(samples), _CALLS, options, CALLS_SHARE)
                runs = _length((end - first) / len(samples), needed, options)
                using.tick((end - told) / NS, (runs - (end - first) + calls) / NS)
            told = end


def _length(each: float, needed: int, options: MeasureOptions, share: float = 1) -> float:
    """Nanoseconds of a part of the measuring time: where runs are slow, what is needed decides."""
    least, most = options.min_seconds * share * NS, options.max_seconds * share * NS
    return min(max(least, needed * each), most)


def _burst(run: Run, sync: Run, samples: list[int], using: Instruments) -> tuple[int, int]:
    """As many runs as fill a second, enqueued at once: (runs, nanoseconds)."""
    runs = max(10, min(len(samples), int(NS / max(1.0, median(samples)))))
    begin = using.now()
    for _ in range(runs):
        run()
    sync()
    spent = using.now() - begin
    using.probe.look()
    return runs, spent


def _calls(
    session: Session, batch: Array, options: MeasureOptions, using: Instruments
) -> tuple[list[int], Array]:
    """Whole calls: place the input, run, read the output; also what the last one answered."""
    calls: list[int] = []
    now = using.now
    first = told = now()
    least = first + options.min_seconds * CALLS_SHARE * NS
    most = first + options.max_seconds * CALLS_SHARE * NS
    while True:
        begin = now()
        answer = session(batch)
        end = now()
        calls.append(end - begin)
        if (end >= least and len(calls) >= _CALLS) or end >= most:
            using.probe.look()
            return calls, answer
        if end - told >= _TICK_NS:
            using.probe.look()
            if using.tick:
                length = _length((end - first) / len(calls), _CALLS, options, CALLS_SHARE)
                using.tick((end - told) / NS, (length - (end - first)) / NS)
            told = end


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """A collection in the middle of a run would be timed with it."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
