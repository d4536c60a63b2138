"""One clock per device: the host's for a CPU, CUDA events on the session's stream for a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from vgg_deploy.backends.base import OnStream, Session
from vgg_deploy.cuda import OLD_DRIVER
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.results import Clock

Now = Callable[[], int]  # nanoseconds, never going back
Run = Callable[[], None]


class Stopwatch(Protocol):
    """Times one run that is waited for."""

    @property
    def name(self) -> Clock:
        """Which clock it reads, for results."""
        ...

    def lap(self, run: Run, sync: Run) -> int:
        """Nanoseconds of one ``run``; it is over when this returns."""
        ...


@dataclass(frozen=True)
class HostStopwatch:
    """``perf_counter_ns`` around run and sync."""

    now: Now = time.perf_counter_ns
    name: Clock = "host"

    def lap(self, run: Run, sync: Run) -> int:
        """What the host had to wait."""
        begin = self.now()
        run()
        sync()
        return self.now() - begin


class Events(Protocol):
    """The four calls on CUDA events that a stopwatch needs."""

    def create(self) -> Any:
        """A new event that keeps time."""
        ...

    def record(self, event: Any, stream: int) -> None:
        """Note the time when the stream gets there."""
        ...

    def wait(self, event: Any) -> None:
        """Until the event has happened."""
        ...

    def between_ms(self, first: Any, last: Any) -> float:
        """Milliseconds between two events that have happened."""
        ...


class CudaStopwatch:
    """Two events on the session's own stream, which is empty when a run begins.

    So the first one happens at once, before the host has launched anything: launching is part of
    the interval, and all of it where a small network's kernels end before the next one comes. A
    CUDA graph makes that one launch.
    """

    name: Clock = "cuda-events"

    def __init__(self, events: Events, stream: int) -> None:
        self._events, self._stream = events, stream
        self._first, self._last = events.create(), events.create()

    def lap(self, run: Run, sync: Run) -> int:
        """From the moment the host begins to launch to the end of the run's last kernel."""
        self._events.record(self._first, self._stream)
        run()
        self._events.record(self._last, self._stream)
        self._events.wait(self._last)
        sync()
        return round(self._events.between_ms(self._first, self._last) * 1e6)


class CudaEvents:
    """``Events`` of the CUDA runtime, through cuda-bindings; no torch."""

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise BackendNotAvailable(
                "timing a GPU needs cuda-bindings, which is not installed",
                'pip install "vgg-deploy[gpu]"',
            ) from error
        self._runtime: Any = runtime

    def create(self) -> Any:
        """``cudaEventCreate``."""
        return self._checked(self._runtime.cudaEventCreate())

    def record(self, event: Any, stream: int) -> None:
        """``cudaEventRecord``."""
        self._checked(self._runtime.cudaEventRecord(event, stream))

    def wait(self, event: Any) -> None:
        """``cudaEventSynchronize``."""
        self._checked(self._runtime.cudaEventSynchronize(event))

    def between_ms(self, first: Any, last: Any) -> float:
        """``cudaEventElapsedTime``; its resolution is about half a microsecond."""
        return float(self._checked(self._runtime.cudaEventElapsedTime(first, last)))

    def _checked(self, answer: tuple[Any, ...]) -> Any:
        status, *values = answer
        if int(status) != 0:
            old = status.name == "cudaErrorInsufficientDriver"
            raise BackendNotAvailable(
                f"the CUDA runtime answered {status.name}",
                OLD_DRIVER if old else "see what is missing: vgg-deploy doctor",
            )
        return values[0] if values else None


def stopwatch_for(session: Session, device: str) -> Stopwatch:
    """The clock of the session's device; the host's where a GPU session names no stream."""
    if device == "cuda" and isinstance(session, OnStream):
        return CudaStopwatch(CudaEvents(), session.stream)
    return HostStopwatch()
