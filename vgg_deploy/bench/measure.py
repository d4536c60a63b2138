"""The timing loop: one session, one resident input, one clock."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

from vgg_deploy.backends.base import Array, Session
from vgg_deploy.bench.load import Load, cores_of_others, look
from vgg_deploy.bench.stats import MIN_QUERIES, NS
from vgg_deploy.errors import UsageError, unknown_choice

Clock = Callable[[], int]  # nanoseconds, never going back

_WINDOW = 5  # runs whose median is compared with that of the window before
_STABLE = 0.05  # relative change between two windows that counts as warm
_MAX_WARMUP_S = 5.0
_NOISY_CV = 0.10  # on a CPU; a spread above it is said beside the number
_BUSY_CORES = 0.2  # what others may use; a quiet machine's services stay below a tenth


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
                f"{self.min_seconds:g} s of measuring time", "use more than 0 and at most 60 s"
            )


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Raw latencies in nanoseconds, and the rules they break."""

    samples_ns: tuple[int, ...]
    warmup_runs: int
    marks: tuple[str, ...]


def measure(
    session: Session,
    batch: Array,
    options: MeasureOptions,
    clock: Clock = time.perf_counter_ns,
    look: Callable[[], Load | None] = look,
) -> Measurement:
    """Time single runs on an input that is placed once; each is waited for."""
    run = session.bind(batch)
    sync = session.sync
    with _no_garbage_collection():
        warmup, warm = _warm_up(run, sync, clock)
        before = look()
        samples = _timed(run, sync, clock, options)
        others = cores_of_others(before, look())
    marks = [] if warm else [f"not stable after {_MAX_WARMUP_S:g} s of warm-up"]
    if len(samples) < MIN_QUERIES[options.percentile]:
        marks.append(
            f"{len(samples)} queries are too few for p{options.percentile} "
            f"({MIN_QUERIES[options.percentile]})"
        )
    if (spread := _spread(samples)) > _NOISY_CV:
        marks.append(f"noisy: CV {100 * spread:.0f} %")
    if others is not None and others > _BUSY_CORES:
        marks.append(f"not alone: other programs used {others:.1f} cores meanwhile")
    return Measurement(samples_ns=tuple(samples), warmup_runs=warmup, marks=tuple(marks))


def _warm_up(run: Callable[[], None], sync: Callable[[], None], clock: Clock) -> tuple[int, bool]:
    """Run until two windows agree; (runs, whether they did before the time was up)."""
    start, runs, before = clock(), 0, 0.0
    while clock() - start < _MAX_WARMUP_S * NS:
        window = []
        for _ in range(_WINDOW):
            begin = clock()
            run()
            sync()
            window.append(clock() - begin)
        runs += _WINDOW
        now = median(window)
        if before and abs(now - before) <= _STABLE * before:
            return runs, True
        before = now
    return runs, False


def _timed(
    run: Callable[[], None], sync: Callable[[], None], clock: Clock, options: MeasureOptions
) -> list[int]:
    samples: list[int] = []
    keep = samples.append
    needed = MIN_QUERIES[options.percentile]
    first = clock()
    least, most = first + options.min_seconds * NS, first + options.max_seconds * NS
    while True:
        begin = clock()
        run()
        sync()
        end = clock()
        keep(end - begin)
        if (end >= least and len(samples) >= needed) or end >= most:
            return samples


def _spread(samples: list[int]) -> float:
    mean = sum(samples) / len(samples)
    if len(samples) < 2 or mean == 0:
        return 0.0
    variance = sum((s - mean) ** 2 for s in samples) / (len(samples) - 1)
    return float(variance**0.5 / mean)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collection in the middle of a run would be timed with it."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
