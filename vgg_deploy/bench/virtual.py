"""Sessions on a clock of their own: latencies with noise, drift and outliers, without waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.bench.clock import HostStopwatch
from vgg_deploy.bench.contest import Contender
from vgg_deploy.bench.measure import Instruments
from vgg_deploy.results import Subject


class Machine:
    """A clock, and a speed that wanders: what disturbs all sessions alike."""

    def __init__(self, seed: int, *, drift: float = 0.05, noise: float = 0.05) -> None:
        self.now_ns = 0
        self.random = np.random.default_rng(seed)
        self.noise, self._drift, self._slow = noise, drift, 0.0

    def now(self) -> int:
        """Nanoseconds that were spent so far."""
        return self.now_ns

    def spend(self, ns: float) -> None:
        """Let a run take its time: skewed noise, a wandering speed, an outlier in a hundred."""
        random = self.random
        self._slow = 0.99 * self._slow + self._drift * 0.14 * random.standard_normal()
        factor = np.exp(self._slow + self.noise * random.standard_normal())
        if random.random() < 0.01:
            factor *= 1 + 3 * random.random()
        self.now_ns += int(ns * factor)


class VirtualSession:
    """Takes ``ns`` of the machine's time per run."""

    def __init__(self, machine: Machine, ns: float) -> None:
        self.machine, self.ns = machine, ns

    def __call__(self, batch: NDArray[Any], /) -> NDArray[Any]:
        """The input, after the time of one run."""
        self.machine.spend(self.ns)
        return batch

    def bind(self, _batch: NDArray[Any], /) -> Callable[[], None]:
        """What takes the time of one run."""
        return lambda: self.machine.spend(self.ns)

    def sync(self) -> None:
        """Runs are synchronous."""


def contender(machine: Machine, name: str, ns: float) -> Contender:
    """A session that takes ``ns`` per run, ready for a contest."""
    subject = Subject(
        artifact="model.fp32.onnx",
        sha256="0" * 64,
        size_bytes=1,
        format="onnx",
        precision="fp32",
        backend=name,
        device="cpu",
    )
    return Contender(subject, VirtualSession(machine, ns), HostStopwatch(now=machine.now))


def instruments(machine: Machine) -> Instruments:
    """Everything reads the machine's clock; nobody else is there."""
    return Instruments(stopwatch=HostStopwatch(now=machine.now), now=machine.now, look=lambda: None)
