"""TensorBoard event files of a run, on request."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.libraries import why_not
from vgg_deploy.train.outcome import EpochRow, Listener, RunPlan

FOLDER = "tensorboard"
EVENTS = "events.out.tfevents.*"  # as tensorboardX names its files
_FIGURES = (
    "loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "test_loss",
    "test_accuracy",
    "lr",
    "examples_per_second",
)


class Board:
    """Passes on what it is told and writes the figures beside; ``close`` at the end.

    Written by tensorboardX, which is a protobuf writer and needs neither TensorFlow nor
    TensorBoard. Raises ``BackendNotAvailable`` without it.
    """

    def __init__(self, folder: Path, listener: Listener) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise BackendNotAvailable(
                f"--tensorboard needs tensorboardX, which {why_not('tensorboardX', error)}",
                'pip install "vgg-deploy[tensorboard]"',
            ) from error
        self._listener = listener
        self._open: Callable[[], Any] = partial(
            SummaryWriter, str(folder / FOLDER), write_to_disk=True
        )
        self._writer: Any = None

    def on_start(self, plan: RunPlan, /) -> None:
        """Open the file: not before, as one of an earlier run may have its name till then."""
        self._writer = self._open()
        self._listener.on_start(plan)

    def on_step(self, done_images: int, total_images: int, loss: float, /) -> None:
        """The loss of a step, over images."""
        self._writer.add_scalar("step/loss", loss, done_images)
        self._listener.on_step(done_images, total_images, loss)

    def on_epoch(self, row: EpochRow, /) -> None:
        """All figures of an epoch."""
        for name in _FIGURES:
            if (value := getattr(row, name)) is not None:
                self._writer.add_scalar(f"epoch/{name}", value, row.epoch)
        self._writer.flush()
        self._listener.on_epoch(row)

    def on_note(self, text: str, /) -> None:
        """Pass it on."""
        self._listener.on_note(text)

    def close(self) -> None:
        """Write what is left, if the run has begun."""
        if self._writer is not None:
            self._writer.close()
