"""A stop watch for the parts of a training step; it stands still unless somebody looks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


class Phases:
    """Seconds by name, while they are measured."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, float] | None = None

    def begin(self) -> None:
        """Measure from now on. On a GPU every phase is waited for, which costs speed."""
        self._seconds = {}

    def end(self) -> Mapping[str, float]:
        """Stop measuring; what was measured."""
        found, self._seconds = self._seconds or {}, None
        return found

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Count the block's time under ``name``."""
        if self._seconds is None:
            yield
            return
        start = now(self._device)
        yield
        self._seconds[name] = self._seconds.get(name, 0.0) + now(self._device) - start


def now(device: torch.device) -> float:
    """Seconds on a clock, when the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
