"""Where a training step's time goes: by phase with the clock, by kind of operation with torch.

The phases are those of a run as it is, the kinds are shares of torch's profiler, whose own work
makes a step longer: their times are not comparable, their shares are.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # torch's own, unlisted

from vgg_deploy import environment, jsonio
from vgg_deploy.train.outcome import PROFILE_FILE
from vgg_deploy.train.phases import now
from vgg_deploy.train.step import Trainer

_WARM_UP, _STEPS = 2, 4  # steps; the same number by the clock and with torch's profiler
_NEEDED = _WARM_UP + 2 * _STEPS
# first match counts; names of aten operators and CUDA kernels
_KINDS: Mapping[str, tuple[str, ...]] = {
    # of --compile: "triton_poi_fused_convolution_relu_3" adds a bias and cuts off, it convolves not
    "fused by inductor": ("triton_", "cpp_fused_"),
    "compiled code": ("compiledf", "torch-compiled", "torchdynamo"),  # what has no better name
    "convolution": ("conv", "cudnn", "implicit_gemm", "wgrad", "dgrad"),
    "fully connected": ("addmm", "aten::mm", "aten::linear", "gemm", "cutlass"),
    "pooling": ("max_pool", "avg_pool", "scatter_reduce"),  # the last: a gradient, compiled
    "ReLU": ("relu", "clamp_min", "threshold"),
    "batch norm": ("batch_norm", "bn_"),
    "optimiser": ("sgd", "optimizer.step"),
    "averages": ("lerp",),
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
    phases_ms: Mapping[str, float]  # forward with the loss, backward, optimiser, averages, the rest
    overhead: float  # share of the rest
    kinds: Mapping[str, float]  # shares by kind of operation, from torch's profiler
    precision: str = ""  # not on record in earlier files, nor is ``compiled``
    compiled: bool = False


class StepProfiler:
    """Watches the first steps of an epoch and writes ``profile.json`` once."""

    def __init__(
        self, trainer: Trainer, folder: Path, tell: Callable[[str], None], *, compiled: bool
    ) -> None:
        self._trainer, self._path, self._tell = trainer, folder / PROFILE_FILE, tell
        self._compiled = compiled
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
        elif self._count == _NEEDED:
            self._finish_kinds()
            self._write()

    def finish(self, steps: int, *, last: bool) -> None:
        """At the end of an epoch of ``steps``, where testing would be counted.

        Where too few were left, as after a resume, the next epoch is watched.
        """
        if self._count >= _NEEDED:
            return
        self._count = 0
        self._trainer.phases.end()
        if self._profile is not None:
            self._finish_kinds()
        if steps < _NEEDED or last:
            self._count = _NEEDED
            what = "an epoch has" if steps < _NEEDED else "the last epoch had"
            left = "" if steps < _NEEDED else " left"
            self._tell(f"no profile: {what} less than {_NEEDED} steps{left}")

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
                precision=self._trainer.precision,
                compiled=self._compiled,
            )
            jsonio.save(self._path, result)
            self._tell(told(result))


def told(profile: StepProfile) -> str:
    """The profile as one line."""
    phases = ", ".join(f"{k} {v / profile.step_ms:.0%}" for k, v in profile.phases_ms.items())
    kinds = ", ".join(f"{k} {v:.0%}" for k, v in profile.kinds.items() if v >= 0.01)
    how = f" in {profile.precision}" * bool(profile.precision) + ", compiled" * profile.compiled
    return f"a step takes {profile.step_ms:.1f} ms{how}: {phases}; by kind: {kinds}"


def _profiler(device: torch.device) -> Any:
    # read when torch first starts it; it reports its own start, and a missing GPU as an error
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    return profile(activities=activities)


def _by_kind(profile: Any) -> Mapping[str, float]:
    """Shares of the time on the device, or on the CPU where there is no other.

    A kernel's time stands at the operator that started it, and once more at an event of its own.
    """
    times: dict[str, float] = defaultdict(float)
    operators = [e for e in profile.key_averages() if e.device_type == DeviceType.CPU]
    on_device = any(event.self_device_time_total for event in operators)
    for event in operators:
        spent = event.self_device_time_total if on_device else event.self_cpu_time_total
        times[_kind(event.key)] += spent
    total = sum(times.values()) or 1.0
    return dict(sorted(((k, t / total) for k, t in times.items()), key=lambda item: -item[1]))


def _kind(name: str) -> str:
    lower = name.lower()
    return next((k for k, parts in _KINDS.items() if any(p in lower for p in parts)), "other")
