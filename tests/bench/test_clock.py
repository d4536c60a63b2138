"""CUDA events on a runtime that the test plays, and the rule which clock a session gets."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vgg_deploy.bench.clock import CudaEvents, CudaStopwatch, HostStopwatch, stopwatch_for
from vgg_deploy.bench.measure import Instruments, MeasureOptions, measure
from vgg_deploy.errors import BackendNotAvailable

MS = 1_000_000  # nanoseconds
STREAM = 7


class Device:
    """A GPU with one stream: work is enqueued at once and takes its time later."""

    def __init__(self, run_ms: float) -> None:
        self.run_ms, self.host_ns, self.busy_until = run_ms, 0, 0.0
        self.log: list[str] = []

    def now(self) -> int:
        return self.host_ns

    # what CudaStopwatch needs
    def create(self) -> SimpleNamespace:
        return SimpleNamespace(at=None)

    def record(self, event: SimpleNamespace, stream: int) -> None:
        assert stream == STREAM
        event.at = max(self.busy_until, self.host_ns / MS)
        self.log.append("record")

    def wait(self, event: SimpleNamespace) -> None:
        self.host_ns = max(self.host_ns, round(event.at * MS)) + 30_000  # wakes up late
        self.log.append("wait")

    def between_ms(self, first: SimpleNamespace, last: SimpleNamespace) -> float:
        return float(last.at - first.at)


class StreamSession:
    def __init__(self, device: Device) -> None:
        self.device, self.stream = device, STREAM

    def __call__(self, batch: NDArray[Any], /) -> NDArray[Any]:
        self.device.host_ns += round(9 * MS)  # copies both ways
        return batch

    def bind(self, batch: NDArray[Any], /) -> Callable[[], None]:
        def run() -> None:
            self.device.host_ns += 20_000  # enqueueing
            start = max(self.device.busy_until, self.device.host_ns / MS)
            self.device.busy_until = start + self.device.run_ms
            self.device.log.append("run")

        return run

    def sync(self) -> None:
        self.device.host_ns = max(self.device.host_ns, round(self.device.busy_until * MS)) + 30_000


def test_the_device_time_is_what_lies_between_the_events() -> None:
    device = Device(run_ms=5)
    session = StreamSession(device)
    lap = CudaStopwatch(device, STREAM).lap(session.bind(np.zeros(1)), session.sync)
    assert device.log == ["record", "run", "record", "wait"]
    assert lap == pytest.approx(5.02 * MS)  # the kernel starts when it was enqueued
    assert device.host_ns > lap  # the host waited longer: that is not the device's time


def test_where_launching_is_slower_than_the_kernels_it_is_what_is_timed() -> None:
    """The stream is idle, so the first event does not wait for the first kernel."""
    device = Device(run_ms=0.001)
    lap = CudaStopwatch(device, STREAM).lap(StreamSession(device).bind(np.zeros(1)), lambda: None)
    assert lap == pytest.approx(0.021 * MS)


def test_device_time_burst_and_calls_are_three_figures() -> None:
    device = Device(run_ms=5)
    using = Instruments(stopwatch=CudaStopwatch(device, STREAM), now=device.now, look=lambda: None)
    found = measure(StreamSession(device), np.zeros(1), MeasureOptions(min_seconds=0.5), using)
    assert found.clock == "cuda-events"
    assert set(found.samples_ns) == {5_020_000}
    assert found.burst_ns / found.burst_runs == pytest.approx(5 * MS, rel=0.01)  # no gaps
    assert set(found.end_to_end_ns) == {9 * MS}


def test_a_gpu_session_is_timed_on_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    events = Device(run_ms=1)
    monkeypatch.setattr("vgg_deploy.bench.clock.CudaEvents", lambda: events)
    assert stopwatch_for(StreamSession(events), "cuda").name == "cuda-events"
    assert stopwatch_for(StreamSession(events), "cpu").name == "host"
    assert isinstance(stopwatch_for(_NoStream(), "cuda"), HostStopwatch)


class _NoStream:
    def __call__(self, batch: NDArray[Any], /) -> NDArray[Any]:
        return batch

    def bind(self, batch: NDArray[Any], /) -> Callable[[], None]:
        return lambda: None

    def sync(self) -> None:
        pass


def test_the_names_that_are_called_exist() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime")
    for name in ("EventCreate", "EventRecord", "EventSynchronize", "EventElapsedTime"):
        assert callable(getattr(runtime, f"cuda{name}"))
    assert callable(runtime.cudaDeviceGetPCIBusId)


def test_what_the_runtime_refuses_has_a_remedy() -> None:
    pytest.importorskip("cuda.bindings.runtime")
    events = CudaEvents()
    events._runtime = SimpleNamespace(
        cudaEventCreate=lambda: (_Status(35, "cudaErrorInsufficientDriver"), None),
        cudaEventElapsedTime=lambda a, b: (_Status(0, "cudaSuccess"), b - a),
    )
    assert events.between_ms(1.0, 3.5) == 2.5
    with pytest.raises(BackendNotAvailable, match="InsufficientDriver") as caught:
        events.create()
    assert "cuda-bindings<13" in caught.value.remedy


class _Status(int):
    name: str

    def __new__(cls, value: int, name: str) -> _Status:
        status = super().__new__(cls, value)
        status.name = name
        return status
