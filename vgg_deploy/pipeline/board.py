"""TensorBoard event files of a run, on request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from vgg_deploy.errors import BackendNotAvailable, os_errors
from vgg_deploy.libraries import why_not
from vgg_deploy.train.outcome import EpochRow, Listener, RunPlan

FOLDER = "tensorboard"
EVENTS = "events.out.tfevents.*"  # as tensorboardX names its files
_HEAD = 12  # bytes before a record
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

    Of a run that is resumed it writes what its files lack, and nothing twice: a run that is killed
    has saved more than it has told.

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
        self._listener, self._folder = listener, folder / FOLDER
        self._known: set[tuple[str, int]] = set()
        self._open: Callable[[], Any] = partial(
            SummaryWriter, str(self._folder), write_to_disk=True
        )
        self._writer: Any = None

    def on_start(self, plan: RunPlan, /) -> None:
        """Open the file: not before, as one of an earlier run may have its name till then."""
        self._writer = self._open()
        if plan.done_images:
            self._known = {one for file in self._folder.glob(EVENTS) for one in figures(file)}
        for row in plan.rows:
            self._epoch(row)
        self._listener.on_start(plan)

    def on_step(self, done_images: int, total_images: int, loss: float, /) -> None:
        """The loss of a step, over images."""
        self._add("step/loss", loss, done_images)
        self._listener.on_step(done_images, total_images, loss)

    def on_epoch(self, row: EpochRow, /) -> None:
        """All figures of an epoch."""
        self._epoch(row)
        self._listener.on_epoch(row)

    def on_note(self, text: str, /) -> None:
        """Pass it on."""
        self._listener.on_note(text)

    def close(self) -> None:
        """Write what is left, if the run has begun."""
        if self._writer is not None:
            self._writer.close()

    def _epoch(self, row: EpochRow) -> None:
        for name in _FIGURES:
            if (value := getattr(row, name)) is not None:
                self._add(f"epoch/{name}", value, row.epoch)
        self._writer.flush()

    def _add(self, tag: str, value: float, at: int) -> None:
        if (tag, at) not in self._known:
            self._writer.add_scalar(tag, value, at)


def figures(file: Path) -> Iterator[tuple[str, int]]:
    """Tag and place of every figure in an event file, up to where it is cut off or damaged.

    A record is its length in 8 bytes, their checksum in 4, so many bytes, their checksum in 4.
    """
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    with os_errors(f"read {file}"):
        data = file.read_bytes()
    at = 0
    while at + _HEAD <= len(data):
        begin = at + _HEAD
        at = begin + int.from_bytes(data[at : at + 8], "little") + 4
        if at > len(data):
            return
        try:
            event = Event.FromString(data[begin : at - 4])
        except DecodeError:
            return
        yield from ((value.tag, event.step) for value in event.summary.value)
