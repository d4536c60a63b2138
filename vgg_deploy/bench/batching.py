"""Dynamic batching as a queue: one replica, requests at random moments, batches as they form.

The policy is that of Triton and of most servers: a free replica takes what waits, at most
``max_batch``; it may hold a batch that is not full until its oldest request has waited
``max_delay_s``. The simulation steps from batch to batch, so its cost is per batch, not per tick.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """When a batch starts."""

    max_batch: int
    max_delay_s: float = 0.0  # 0: never wait for company


class ServiceTimes:
    """How long a batch takes: measured latencies, in between by straight lines.

    A time is the median at its size, times a factor drawn from the measured spread of the nearest
    larger measured size. Sizes above the largest measured one are refused. A size that the file
    does not take is padded to the next one that it takes, and takes that one's time.
    """

    def __init__(
        self,
        measured: Sequence[tuple[int, Seconds]],
        takes: Callable[[int], bool] = lambda _size: True,
    ) -> None:
        """Take pairs of a batch size and its latencies in seconds, at least one pair."""
        pairs = sorted(measured, key=lambda pair: pair[0])
        if not pairs or any(len(samples) == 0 for _, samples in pairs):
            raise ValueError("no latencies")
        self.batches = tuple(batch for batch, _ in pairs)
        medians = [float(np.median(samples)) for _, samples in pairs]
        sizes = list(range(self.batches[-1] + 1))
        for size in reversed(sizes[1:-1]):
            if size not in self.batches and not takes(size):
                sizes[size] = sizes[size + 1]
        self._runs_as = sizes
        self._median = np.interp(sizes, self.batches, medians)
        self._factors = [
            samples / median for (_, samples), median in zip(pairs, medians, strict=True)
        ]
        self._nearest = np.searchsorted(self.batches, sizes)

    @property
    def padded(self) -> dict[int, tuple[int, int]]:
        """By the size that is run: the smallest and the largest that are padded to it."""
        found: dict[int, tuple[int, int]] = {}
        for size, run in enumerate(self._runs_as):
            if run != size:
                found[run] = (found.get(run, (size, size))[0], size)
        return found

    def median(self, batch: int) -> float:
        """Seconds that a batch of that size usually takes."""
        return float(self._median[batch])

    def mean(self, batch: int) -> float:
        """Mean seconds of a batch of that size: what full batches take one after the other."""
        return self.median(batch) * float(np.mean(self._factors[self._nearest[batch]]))

    def draw(self, random: np.random.Generator, count: int) -> Seconds:
        """``count`` possible times for each size: ``drawn[size, i]``, in seconds."""
        factors = [values[random.integers(0, len(values), count)] for values in self._factors]
        return self._median[:, None] * np.stack(factors)[self._nearest]


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What the requests of one simulation met."""

    latencies_s: Seconds  # from arrival to answer, in order of arrival, warm-up left out
    utilisation: float  # share of the time the replica computed
    mean_batch: float

    def percentile(self, p: float) -> float:
        """The ``p``-th percentile of the latency in seconds."""
        return float(np.percentile(self.latencies_s, p))


_WARM_UP = 0.1  # share of the requests that meet an emptier queue than later ones
_DRAWS = 4096  # service times drawn per size, used in turn


@dataclass(frozen=True)
class Traffic:
    """Random moments and service times, drawn once and used for every rate and policy.

    Two simulations on the same traffic differ by nothing but what is compared.
    """

    moments: Seconds  # of a Poisson process of rate 1, in order
    drawn: Seconds  # [batch size, draw]


def traffic(service: ServiceTimes, *, requests: int, seed: int) -> Traffic:
    """Traffic of that many requests."""
    random = np.random.default_rng(seed)
    return Traffic(np.cumsum(random.exponential(1.0, requests)), service.draw(random, _DRAWS))


def simulate(traffic: Traffic, rate: float, policy: Policy) -> Simulated:
    """All requests at ``rate`` per second through one replica."""
    return replay((traffic.moments / rate).tolist(), traffic.drawn, policy)


def replay(arrivals: list[float], drawn: Seconds, policy: Policy) -> Simulated:
    """Given moments of arrival, in order, through one replica."""
    requests, most = len(arrivals), policy.max_batch
    draws = drawn.shape[1]
    ends: list[float] = []
    sizes: list[int] = []
    free = busy = 0.0
    first = 0
    while first < requests:
        last = first + most - 1
        full = arrivals[last] if last < requests else float("inf")
        # As soon as the replica is free, unless waiting for company pays and is allowed.
        start = max(free, arrivals[first], min(full, arrivals[first] + policy.max_delay_s))
        taken = bisect_right(arrivals, start, first, min(first + most, requests)) - first
        seconds = drawn.item(taken, len(sizes) % draws)  # a Python float: the loop adds it faster
        free = start + seconds
        busy += seconds
        ends.append(free)
        sizes.append(taken)
        first += taken
    latencies = np.repeat(ends, sizes) - np.asarray(arrivals)
    return Simulated(
        latencies_s=latencies[int(requests * _WARM_UP) :],
        utilisation=busy / free,
        mean_batch=requests / len(sizes),
    )
