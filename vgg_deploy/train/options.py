"""What a training run is asked to do, and what it reports: frozen values without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from vgg_deploy.errors import UsageError, unknown_choice
from vgg_deploy.train.recipes import RECIPES, Recipe

DeviceChoice = Literal["auto", "cpu", "cuda"]
PrecisionChoice = Literal["auto", "fp32", "bf16"]
DEVICES: tuple[DeviceChoice, ...] = get_args(DeviceChoice)
TRAIN_PRECISIONS: tuple[PrecisionChoice, ...] = get_args(PrecisionChoice)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of one training run; ``UsageError`` for values that cannot work.

    ``lr`` and ``batch`` of None are the recipe's. ``max_images`` takes the first so many of the
    training images.
    """

    recipe: str = "modern"
    epochs: int = 3
    batch: int | None = None
    lr: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    max_images: int | None = None

    def __post_init__(self) -> None:
        for what, given, choices in (
            ("recipe", self.recipe, tuple(RECIPES)),
            ("device", self.device, DEVICES),
            ("training precision", self.precision, TRAIN_PRECISIONS),
        ):
            if given not in choices:
                raise unknown_choice(what, given, choices)
        for name, value, low in (
            ("epochs", self.epochs, 1),
            ("batch", self.batch, 1),
            ("max-images", self.max_images, 1),
            ("seed", self.seed, 0),
        ):
            if value is not None and value < low:
                raise UsageError(f"{name} {value} is below {low}", f"use at least {low}")
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr > 0):
            raise UsageError(f"learning rate {self.lr}", "use a finite value above 0, such as 0.05")

    @property
    def chosen(self) -> Recipe:
        """The recipe of that name."""
        return next(recipe for name, recipe in RECIPES.items() if name == self.recipe)


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """One line of ``metrics.jsonl``.

    Loss and training accuracy are means over the epoch while the weights change, with dropout
    and augmentation, as the book plots them; the test's are of the weights at its end, in fp32.
    """

    epoch: int  # from 1
    loss: float
    train_accuracy: float  # 0..1
    test_loss: float
    test_accuracy: float  # 0..1
    examples_per_second: float  # training alone
    seconds: float  # training, test and saving
    lr: float  # of the last step


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run is going to do, known before its first step."""

    device: str
    precision: str
    epochs: int
    train_images: int  # per epoch
    test_images: int
    batch: int
    parameters: int


class Listener(Protocol):
    """Is told how training proceeds."""

    def on_start(self, plan: RunPlan, /) -> None:
        """Before the first step."""

    def on_step(self, done_images: int, total_images: int, loss: float | None, /) -> None:
        """After a step; images of all epochs together, ``loss`` when it was looked at."""

    def on_epoch(self, row: EpochRow, /) -> None:
        """After an epoch's checkpoint was saved."""


class Silent:
    """A listener that does nothing."""

    def on_start(self, plan: RunPlan, /) -> None:
        """Do nothing."""

    def on_step(self, done_images: int, total_images: int, loss: float | None, /) -> None:
        """Do nothing."""

    def on_epoch(self, row: EpochRow, /) -> None:
        """Do nothing."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run left behind."""

    rows: tuple[EpochRow, ...]
    best: EpochRow
    best_path: Path  # highest test accuracy; of equals the earliest
    last_path: Path
    made_by: Mapping[str, str]  # every option that shaped the weights
