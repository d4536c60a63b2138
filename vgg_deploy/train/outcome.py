"""What a training run reports: frozen values without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vgg_deploy.spec import ModelCard

BEST_FILE = "best.safetensors"
LAST_FILE = "last.safetensors"
MAIN_JOB = "run"  # owner of what vgg-deploy run trains
METRICS_FILE = "metrics.jsonl"
EVALUATION_FILE = "evaluation.json"
PROFILE_FILE = "profile.json"


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """One line of ``metrics.jsonl``.

    Loss and training accuracy are means over the epoch while the weights change, with dropout
    and augmentation, as the book plots them; the test's are of the weights at its end, or of their
    moving average where there is one, in fp32.
    """

    epoch: int  # from 1
    loss: float
    train_accuracy: float  # 0..1
    test_loss: float
    test_accuracy: float  # 0..1
    examples_per_second: float  # training alone
    seconds: float  # training, test and saving
    lr: float  # of the last step
    validation_loss: float | None = None  # of the images held out, as the test's
    validation_accuracy: float | None = None

    @property
    def chosen_by(self) -> tuple[float, float]:
        """Accuracy and negative loss on the images held out, else on the test's."""
        if self.validation_accuracy is None or self.validation_loss is None:
            return self.test_accuracy, -self.test_loss
        return self.validation_accuracy, -self.validation_loss


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run is going to do, known before its first step."""

    device: str
    precision: str
    epochs: int
    train_images: int  # per epoch
    test_images: int
    validation_images: int  # held out to choose the best epoch with
    batch: int  # of all processes together
    accumulate: int
    processes: int
    parameters: int
    trained_parameters: int
    done_images: int  # by the run that is resumed
    ema: float  # decay of the averages that are tested and saved; 0: the weights themselves
    rows: tuple[EpochRow, ...] = ()  # of the epochs done by the run that is resumed
    compiled: bool  # the first step of every shape of batch waits for it


class Listener(Protocol):
    """Is told how training proceeds."""

    def on_start(self, plan: RunPlan, /) -> None:
        """Before the first step."""

    def on_step(self, done_images: int, total_images: int, loss: float, /) -> None:
        """After a step whose loss is known; images of all epochs together."""

    def on_epoch(self, row: EpochRow, /) -> None:
        """After an epoch's checkpoint was saved."""

    def on_note(self, text: str, /) -> None:
        """One line for people: resumed from where, a damaged checkpoint, a smaller batch."""


class Silent:
    """A listener that does nothing."""

    def on_start(self, plan: RunPlan, /) -> None:
        """Do nothing."""

    def on_step(self, done_images: int, total_images: int, loss: float, /) -> None:
        """Do nothing."""

    def on_epoch(self, row: EpochRow, /) -> None:
        """Do nothing."""

    def on_note(self, text: str, /) -> None:
        """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run left behind."""

    rows: tuple[EpochRow, ...]
    best: EpochRow
    best_path: Path  # weights of ``best``
    last_path: Path
    card: ModelCard  # as it is in both; the data's name is that of the run's beginning
    made_by: Mapping[str, str]  # every option that shaped the weights


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """One test image of which the network thinks something else."""

    index: int  # in the test split
    truth: int
    predicted: int
    probability: float  # of the class predicted
    file: str = ""  # below the data set's folder; empty where images have no files


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Contents of ``evaluation.json``: the best epoch on the test split."""

    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]  # images by [truth][predicted]
    mistakes: int
    worst: tuple[Mistake, ...]  # those the network was most sure of


def best_of(rows: tuple[EpochRow, ...]) -> EpochRow:
    """The row of the highest accuracy on the images that choose, of equals that of the lowest loss.

    Where the losses are equal, too, the first.
    """
    return max(rows, key=lambda row: row.chosen_by)
