"""Clocks, temperature, power and neighbours of a GPU while it is measured, through NVML.

NVML answers in a millisecond or so; it is asked between two timed runs, never from a thread that
would compete with them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Protocol

from vgg_deploy.results import GpuState

# nvml.h, nvmlClocksEventReasons: bits that mean slower than the GPU could be.
_REASONS = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_SM, _MEMORY, _TEMPERATURE = 1, 2, 0  # nvmlClockType_t, nvmlTemperatureSensors_t
_BUSY_PERCENT = 5  # utilisation of a GPU on which nothing of ours runs
# Utilisation is an average over up to a second, which our own cold start may still be part of.
_WAIT_S, _WAITS = 0.2, 15


class Probe(Protocol):
    """Somebody who looks at a device again and again and says what was seen."""

    def look(self) -> None:
        """Take one reading."""
        ...

    def seen(self) -> GpuState | None:
        """The extremes of all readings; None without one."""
        ...


class NoProbe:
    """Nothing to look at: a CPU, or a GPU without NVML."""

    def look(self) -> None:
        """Nothing to read."""

    def seen(self) -> GpuState | None:
        """Nothing was seen."""
        return None


class NvmlProbe:
    """Readings of one GPU; ``nvml`` is the module pynvml or what stands in for it.

    Made before anything of ours runs there: a GPU that stays busy then is used by others.
    """

    def __init__(self, nvml: Any, handle: Any, sleep: Callable[[float], None] = time.sleep) -> None:
        self._nvml, self._handle = nvml, handle
        self._readings: list[tuple[int, int, int, float]] = []
        self._reasons = 0
        self._memory = 0
        self._others = int(self._stays_busy(sleep))

    def look(self) -> None:
        """Clocks, temperature, power, reasons and processes now; what is not supported is 0."""
        nvml, handle = self._nvml, self._handle
        self._readings.append(
            (
                int(self._ask(nvml.nvmlDeviceGetClockInfo, _SM)),
                int(self._ask(nvml.nvmlDeviceGetClockInfo, _MEMORY)),
                int(self._ask(nvml.nvmlDeviceGetTemperature, _TEMPERATURE)),
                self._ask(nvml.nvmlDeviceGetPowerUsage) / 1000,
            )
        )
        self._reasons |= int(self._ask(nvml.nvmlDeviceGetCurrentClocksThrottleReasons))
        try:
            processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except nvml.NVMLError:
            return
        own = [p for p in processes if p.pid == os.getpid()]
        # A container has process numbers of its own: then one of those listed is this one.
        strangers = len(processes) - max(1, len(own)) if processes else 0
        self._others = max(self._others, strangers)
        mine = own or (processes if len(processes) == 1 else [])
        self._memory = max([self._memory, *(p.usedGpuMemory or 0 for p in mine)])

    def seen(self) -> GpuState | None:
        """Lowest and highest of each reading."""
        if not self._readings:
            return None
        sm, memory, temperature, power = zip(*self._readings, strict=True)
        return GpuState(
            sm_mhz=(min(sm), max(sm)),
            memory_mhz=(min(memory), max(memory)),
            temperature_c=(min(temperature), max(temperature)),
            power_w=(min(power), max(power)),
            slowed_by=tuple(name for bit, name in _REASONS.items() if self._reasons & bit),
            other_processes=self._others,
            memory_bytes=self._memory or None,
        )

    def _stays_busy(self, sleep: Callable[[float], None]) -> bool:
        for _ in range(_WAITS):
            if not self._is_busy():
                return False
            sleep(_WAIT_S)
        return self._is_busy()

    def _is_busy(self) -> bool:
        try:
            return int(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu) > _BUSY_PERCENT
        except self._nvml.NVMLError:
            return False

    def _ask(self, question: Any, *words: int) -> float:
        try:
            return float(question(self._handle, *words))
        except self._nvml.NVMLError:
            return 0.0


def probe_for(device: str) -> Probe:
    """A probe of the GPU that CUDA calls 0; ``NoProbe`` on a CPU or without NVML."""
    if device != "cuda":
        return NoProbe()
    try:
        import pynvml
    except ImportError:
        return NoProbe()
    try:
        pynvml.nvmlInit()
        return NvmlProbe(pynvml, _handle(pynvml))
    except pynvml.NVMLError:
        return NoProbe()


def _handle(nvml: Any) -> Any:
    """NVML numbers GPUs by their bus, CUDA as CUDA_VISIBLE_DEVICES says: ask by the bus."""
    try:
        from cuda.bindings import runtime

        status, bus = runtime.cudaDeviceGetPCIBusId(32, 0)
        if int(status) == 0:
            return nvml.nvmlDeviceGetHandleByPciBusId(bytes(bus).rstrip(b"\0"))
    except ImportError:
        pass
    return nvml.nvmlDeviceGetHandleByIndex(0)
