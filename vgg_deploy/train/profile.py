"""Where a training step's time goes: by phase with the clock, by kind of operation with torch.

The phases are those of a run as it is, the kinds are shares of torch's profiler, whose own work
makes a step longer: their times are not comparable, their shares are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vgg_deploy import environment, jsonio
from vgg_deploy.train.phases import now
from vgg_deploy.train.step import Trainer

PROFILE_FILE = "profile.json"
_WARM_UP, _STEPS = 2, 4  # steps; the same number by the clock and with torch's profiler
# first match counts; names of aten operators and CUDA kernels
_KINDS: Mapping[str, tuple[str, ...]] = {
    "convolution": ("conv", "cudnn", "implicit_gemm", "wgrad", "dgrad"),
    "fully connected": ("addmm", "aten::mm", "aten::linear", "gemm", "cutlass"),
    "pooling": ("max_pool", "avg_pool"),
    "ReLU": ("relu", "clamp_min", "threshold"),
    "batch norm": ("batch_norm", "bn_"),
    "optimiser": ("sgd", "optimizer.step"),
    "dropout": ("bernoulli", "dropout"),
    "resize and augmentation": ("bmm", "aten::index", "aten::flip", "aten::where"),
    "copies and casts": ("copy", "memcpy", "contiguous", "_to_copy"),
    "buffer fills": ("fill_", "zero_", "memset"),
}


@dataclass(frozen=True, kw_only=True)
class StepProfile:
    """Contents of ``profile.json``."""

    environment: environment.Environment
    steps: int
    batch: int
    step_ms: float  # mean of the undisturbed steps
    phases_ms: Mapping[str, float]  # forward with the loss, backward, optimiser, the rest
    overhead: float  # share of the step outside the first three
    kinds: Mapping[str, float]  # shares by kind of operation, from torch's profiler


class StepProfiler:
    """Watches the first steps of a run and writes ``profile.json`` once."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self._trainer, self._path = trainer, folder / PROFILE_FILE
        self._count = 0
        self._phases: Mapping[str, float] = {}
        self._profile: Any = None
        self._kinds: Mapping[str, float] = {}
        self._total = 0.0

    def step(self) -> None:
        """Between two steps."""
        self._count += 1
        if self._count == _WARM_UP:
            self._trainer.phases.begin()
            self._clock = now(self._trainer.device)
        elif self._count == _WARM_UP + _STEPS:
            self._total = now(self._trainer.device) - self._clock
            self._phases = self._trainer.phases.end()
            self._profile = _profiler(self._trainer.device)
            self._profile.__enter__()
        elif self._count == _WARM_UP + 2 * _STEPS:
            self._finish_kinds()
            self._write()

    def finish(self) -> None:
        """At the end of an epoch: an epoch of few steps gives what it can."""
        if self._profile is not None:
            self._finish_kinds()
            self._write()
        self._trainer.phases.end()

    def _finish_kinds(self) -> None:
        self._profile.__exit__(None, None, None)
        self._kinds = _by_kind(self._profile)
        self._profile = None

    def _write(self) -> None:
        step = 1000 * self._total / _STEPS
        phases = {name: 1000 * seconds / _STEPS for name, seconds in self._phases.items()}
        rest = step - sum(phases.values())
        if self._trainer.world.main:
            result = StepProfile(
                environment=environment.capture(),
                steps=_STEPS,
                batch=self._trainer.batch,
                step_ms=step,
                phases_ms={**phases, "rest": rest},
                overhead=rest / step,
                kinds=self._kinds,
            )
            jsonio.save(self._path, result)


def _profiler(device: torch.device) -> Any:
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    return profile(activities=activities)


def _by_kind(profile: Any) -> Mapping[str, float]:
    """Shares of the time on the device, or on the CPU where there is no other."""
    times: dict[str, float] = defaultdict(float)
    events = profile.key_averages()
    on_device = any(event.self_device_time_total for event in events)
    for event in events:
        spent = event.self_device_time_total if on_device else event.self_cpu_time_total
        times[_kind(event.key)] += spent
    total = sum(times.values()) or 1.0
    return dict(sorted(((k, t / total) for k, t in times.items()), key=lambda item: -item[1]))


def _kind(name: str) -> str:
    lower = name.lower()
    return next((k for k, parts in _KINDS.items() if any(p in lower for p in parts)), "other")
