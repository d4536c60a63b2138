"""The rules of a timing; each that is broken is said beside the number, and makes no headline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median

from vgg_deploy.bench.stats import MIN_QUERIES, robust_spread
from vgg_deploy.results import Clock, GpuState

NOT_ALONE_CORES = 0.2  # what others may use; a quiet machine's services stay below a tenth
# Half of the interquartile range over the median. On a host left alone it stayed below 4.1 % in 40
# of 40 timings, and was above 6.6 % in 40 of 40 beside a program that kept a core busy. Single
# outliers took the first ones' coefficient of variation to 46 %, their medians stayed within 6 % of
# the middle (docs/results/noise.json). The GPU's figure is not calibrated.
NOISY: Mapping[Clock, float] = {"host": 0.06, "cuda-events": 0.025}
# Mean over median: what a few long stops do to a timing whose quartiles stay together. Of the same
# timings it was at most 1.05 in those left alone, and 2.08 and more in the others.
EVEN = 1.5
DRIFT = 0.05  # trimmed mean of the last third against that of the first; alone: 40 of 40 within 3 %
THROTTLED = 0.01  # periods of a container's processor limit in which it may strike
_THIRDS = 30  # fewest samples for a look at the thirds


def marks_of(
    samples: Sequence[int],
    *,
    clock: Clock,
    percentile: int,
    warm: bool,
    others: float | None,
    throttled: float,
    gpu: GpuState | None,
) -> tuple[str, ...]:
    """One line per broken rule; none for a measurement that may be quoted."""
    marks = [*warm_mark(warm)]
    if len(samples) < MIN_QUERIES[percentile]:
        least = MIN_QUERIES[percentile]
        marks.append(f"{len(samples)} queries are too few for p{percentile} ({least})")
    if (spread := robust_spread(samples)) > NOISY[clock]:
        marks.append(f"noisy: quartiles ±{100 * spread:.1f} %")
    if (uneven := _unevenness(samples)) > EVEN:
        marks.append(f"uneven: the mean is {uneven:.1f} times the median")
    if abs(drift := drift_of(samples)) > DRIFT:
        word = "slower" if drift > 0 else "faster"
        marks.append(f"drifting: {100 * abs(drift):.0f} % {word} at the end than at the start")
    return (*marks, *others_mark(others), *throttled_mark(throttled), *gpu_marks(gpu))


def warm_mark(warm: bool) -> tuple[str, ...]:
    """The mark for a warm-up that ended before it had settled."""
    return () if warm else ("not stable after 5 s of warm-up",)


def calls_mark(calls_ns: Sequence[int]) -> tuple[str, ...]:
    """The mark for calls from host to host that differ too much for a figure made from them."""
    spread = robust_spread(calls_ns)
    return (f"calls noisy: quartiles ±{100 * spread:.1f} %",) if spread > NOISY["host"] else ()


def others_mark(others: float | None) -> tuple[str, ...]:
    """The mark for cores that other programs used; none where they did not, or nobody knows."""
    if others is None or others <= NOT_ALONE_CORES:
        return ()
    return (f"not alone: other programs used {others:.1f} cores meanwhile",)


def throttled_mark(share: float) -> tuple[str, ...]:
    """The mark for a container's processor limit that struck in a share of its periods."""
    if share <= THROTTLED:
        return ()
    return (f"throttled: the container's processor limit struck in {share:.0%} of its periods",)


def gpu_marks(gpu: GpuState | None) -> tuple[str, ...]:
    """The marks for what the driver said of a GPU; none without one."""
    if gpu is None:
        return ()
    marks = []
    if gpu.slowed_by:
        marks.append(f"slowed down: {', '.join(gpu.slowed_by)}")
    if gpu.other_processes:
        marks.append("not alone: the GPU was used by others")
    return tuple(marks)


def _unevenness(samples: Sequence[int]) -> float:
    """Mean over median; 1 where nothing took any time."""
    middle = median(samples)
    return fmean(samples) / middle if middle else 1.0


def drift_of(samples: Sequence[int]) -> float:
    """How much slower the last third is than the first; 0 for few samples."""
    if len(samples) < _THIRDS:
        return 0.0
    third = len(samples) // 3
    first, last = _trimmed(samples[:third]), _trimmed(samples[-third:])
    return last / first - 1 if first else 0.0


def _trimmed(samples: Sequence[int]) -> float:
    """Mean without the lowest and the highest tenth: steady for two humps, where a median jumps."""
    cut = len(samples) // 10
    kept = sorted(samples)[cut : len(samples) - cut]
    return sum(kept) / len(kept)
