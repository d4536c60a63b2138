"""Readings of a GPU, from a driver that the test plays."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from vgg_deploy.bench.nvml import NoProbe, NvmlProbe, probe_for
from vgg_deploy.bench.rules import marks_of
from vgg_deploy.results import GpuState


class NVMLError(Exception):
    pass


class Driver:
    """The functions of pynvml that are used; ``refuses`` names those that raise."""

    NVMLError = NVMLError

    def __init__(self, **planned: Any) -> None:
        self.clock = iter(planned.get("clocks", [1980, 1750, 1980]))
        self.reasons = iter(planned.get("reasons", [1, 4, 1]))  # 1: idle
        self.pids = planned.get("pids", [os.getpid()])
        self.busy = iter(planned.get("busy", ()))  # then idle
        self.refuses = planned.get("refuses", ())

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlDeviceGetClockInfo": lambda _h, kind: next(self.clock) if kind == 1 else 2619,
            "nvmlDeviceGetTemperature": lambda _h, _sensor: 61,
            "nvmlDeviceGetPowerUsage": lambda _h: 412_500,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _h: next(self.reasons),
            "nvmlDeviceGetUtilizationRates": lambda _h: SimpleNamespace(gpu=next(self.busy, 0)),
            "nvmlDeviceGetComputeRunningProcesses": lambda _h: [
                SimpleNamespace(pid=pid, usedGpuMemory=1 << 30) for pid in self.pids
            ],
        }
        if name in self.refuses:
            return self._refuse
        return answers[name]

    def _refuse(self, *_words: object) -> None:
        raise NVMLError("not supported")


def seen(**planned: Any) -> GpuState:
    probe = NvmlProbe(Driver(**planned), "gpu 0", lambda _: None)
    for _ in range(3):
        probe.look()
    found = probe.seen()
    assert found is not None
    return found


def test_extremes_of_all_readings() -> None:
    found = seen()
    assert found.sm_mhz == (1750, 1980)
    assert found.memory_mhz == (2619, 2619)
    assert found.temperature_c == (61, 61)
    assert found.power_w == (412.5, 412.5)
    assert found.slowed_by == ("power cap",)
    assert found.other_processes == 0
    assert found.memory_bytes == 1 << 30


@pytest.mark.parametrize(
    ("planned", "others"),
    [
        ({"pids": [os.getpid(), 99999]}, 1),
        ({"pids": [4242]}, 0),  # a container's own numbers: that one is this process
        ({"pids": [4242, 4243]}, 1),
        ({"pids": []}, 0),
        ({"busy": [60] * 99}, 1),
        ({"busy": [60, 40, 8]}, 0),  # our own cold start, which has just ended
    ],
)
def test_others_on_the_device(planned: dict[str, Any], others: int) -> None:
    assert seen(**planned).other_processes == others


def test_what_the_driver_refuses_is_nothing() -> None:
    found = seen(
        refuses=("nvmlDeviceGetPowerUsage", "nvmlDeviceGetComputeRunningProcesses",
                 "nvmlDeviceGetUtilizationRates")
    )  # fmt: skip
    assert found.power_w == (0.0, 0.0)
    assert found.memory_bytes is None


def test_without_a_reading_there_is_no_state() -> None:
    assert NvmlProbe(Driver(), "gpu 0").seen() is None


def test_a_slowed_or_shared_gpu_breaks_a_rule() -> None:
    state = seen(pids=[os.getpid(), 99999])
    marks = marks_of(
        [1000] * 100,
        clock="cuda-events",
        percentile=90,
        warm=True,
        others=None,
        throttled=0,
        gpu=state,
    )
    assert marks == ("slowed down: power cap", "not alone: the GPU was used by others")


def test_a_gpu_is_held_to_a_smaller_spread() -> None:
    samples = [1000, 1100] * 50

    def marks(clock: Any) -> tuple[str, ...]:
        return marks_of(
            samples, clock=clock, percentile=90, warm=True, others=None, throttled=0, gpu=None
        )

    assert marks("cuda-events") == ("noisy: quartiles ±4.8 %",)
    assert marks("host") == ()


def test_a_cpu_has_no_probe() -> None:
    probe = probe_for("cpu")
    probe.look()
    assert probe.seen() is None
    assert isinstance(probe, NoProbe)


def test_the_names_that_are_called_exist() -> None:
    nvml = pytest.importorskip("pynvml")
    for name in (
        "ClockInfo", "Temperature", "PowerUsage", "CurrentClocksThrottleReasons",
        "ComputeRunningProcesses", "UtilizationRates", "HandleByPciBusId", "HandleByIndex",
    ):  # fmt: skip
        assert callable(getattr(nvml, f"nvmlDeviceGet{name}"))
    assert (nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM, nvml.NVML_TEMPERATURE_GPU) == (1, 2, 0)
