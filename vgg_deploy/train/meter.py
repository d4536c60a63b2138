"""The losses of a run, read without waiting for the device."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import distributed as dist

from vgg_deploy.train.distributed import World

_PAUSE = 0.0005  # seconds; a step is queued behind the one that is waited for


@dataclass(frozen=True)
class StepFigures:
    """Sums over one batch, of all processes together."""

    loss: float
    hits: int
    images: int
    stop: bool  # whether some process wishes to stop


class _Waiting(Protocol):
    def __call__(self) -> StepFigures: ...


class Meter:
    """Takes each step's sums as they are enqueued and gives them out when they have arrived.

    On a CPU alone that is at once. On a GPU, and with several processes, each is given out one
    step later: its copy to the host, or its sum over the processes, runs beside the next step.
    As every process reads the same sums at the same step, they also agree when to stop. One that
    drained early, to save, knows a wish a step before the others: ``stop_drained`` keeps it until
    the step at which they learn of it.

    A step of a GPU that waits for a lost process never ends; ``gives_up`` is asked meanwhile.
    """

    def __init__(
        self, device: torch.device, world: World, gives_up: Callable[[], bool] | None = None
    ) -> None:
        self._device = device
        self._world = world
        self._gives_up = gives_up
        self._waiting: deque[_Waiting] = deque()
        self.stop_drained = False
        self._lag = int(device.type == "cuda" or world.size > 1)

    def push(
        self, loss: torch.Tensor, hits: torch.Tensor, images: int, *, stop: bool
    ) -> Iterator[StepFigures]:
        """Take a step; gives the figures of the steps that have arrived."""
        # filled on the device: a copy from the host would wait for it
        counts = (
            torch.full((), value, dtype=torch.float64, device=self._device)
            for value in (images, float(stop))
        )
        self._waiting.append(self._sent(torch.stack([loss.double(), hits.double(), *counts])))
        while len(self._waiting) > self._lag:
            yield self._waiting.popleft()()

    def drain(self) -> Iterator[StepFigures]:
        """Wait for all that is under way."""
        while self._waiting:
            figures = self._waiting.popleft()()
            self.stop_drained |= figures.stop
            yield figures

    def _sent(self, sums: torch.Tensor) -> _Waiting:
        work: Any = dist.all_reduce(sums, async_op=True) if self._world.size > 1 else None
        if self._device.type != "cuda":
            return lambda: _figures(_after(work, sums))
        if work is not None:
            work.wait()  # orders the streams, does not hold the host
        host = torch.empty(4, dtype=torch.float64, pin_memory=True)
        host.copy_(sums, non_blocking=True)
        arrived = torch.cuda.Event()
        arrived.record()

        def read() -> StepFigures:
            if self._gives_up is not None and self._world.size > 1:
                wait_for(arrived.query, self._gives_up)
            arrived.synchronize()
            return _figures(host)

        return read


def wait_for(arrived: Callable[[], bool], gives_up: Callable[[], bool]) -> None:
    """Ask until it is there: Python hears no signal while CUDA waits.

    Raises ``RuntimeError`` when it is to be given up.
    """
    while not arrived():
        if gives_up():
            raise RuntimeError("nccl: asked to stop, and the step does not end")
        time.sleep(_PAUSE)


def _after(work: Any, sums: torch.Tensor) -> torch.Tensor:
    if work is not None:
        work.wait()
    return sums


def _figures(sums: torch.Tensor) -> StepFigures:
    loss, hits, images, stop = sums.tolist()
    return StepFigures(loss, int(hits), int(images), stop > 0)
