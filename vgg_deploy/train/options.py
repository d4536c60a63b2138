"""What a training run is asked to do: frozen values without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from vgg_deploy.errors import UsageError, unknown_choice
from vgg_deploy.train.recipes import RECIPES, Recipe

DeviceChoice = Literal["auto", "cpu", "cuda"]
PrecisionChoice = Literal["auto", "fp32", "bf16"]
ResumeChoice = Literal["no", "may", "must"]
KeepChoice = Literal["none", "same", "all"]
DEVICES: tuple[DeviceChoice, ...] = get_args(DeviceChoice)
TRAIN_PRECISIONS: tuple[PrecisionChoice, ...] = get_args(PrecisionChoice)
_LARGEST_SEED = 2**63 - 1
_MOST_HELD_OUT = 0.5
FREEZABLE = ("features",)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What shapes the weights of one training run; ``UsageError`` for values that cannot work.

    ``lr``, ``batch`` and ``flip`` of None are the recipe's. ``max_images`` takes the first so many
    of the training images. ``accumulate`` splits every batch into so many pieces, whose gradients
    are added up: less memory, the same gradient but for batch norm and dropout. ``freeze`` of
    "features" leaves the convolutions as they are. ``validation`` is the share of the training
    images, of every class the last ones, that are not trained with but choose the best epoch.
    ``ema`` is the decay per step of the weights' exponential moving average, which is then what is
    tested and saved; with 0 the weights themselves are. ``compile`` lets ``torch.compile`` make the
    network's kernels, which it may pick by timing them.
    """

    recipe: str = "modern"
    epochs: int = 3
    batch: int | None = None
    lr: float | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    max_images: int | None = None
    accumulate: int = 1
    auto_batch: bool = False
    deterministic: bool = False
    freeze: str | None = None
    validation: float = 0.0
    ema: float = 0.0
    flip: bool | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        self._require_choices()
        for name, value, low in (
            ("epochs", self.epochs, 1),
            ("batch", self.batch, 1),
            ("max-images", self.max_images, 1),
            ("accumulate", self.accumulate, 1),
            ("seed", self.seed, 0),
        ):
            if value is not None and value < low:
                raise UsageError(f"{name} {value} is below {low}", f"use at least {low}")
        if self.seed > _LARGEST_SEED:
            raise UsageError(
                f"seed {self.seed} does not fit into 63 bits", f"use at most {_LARGEST_SEED}"
            )
        if not 0 <= self.validation <= _MOST_HELD_OUT:  # NaN is refused, too
            raise UsageError(
                f"validation {self.validation:g} is not a share of 0 to {_MOST_HELD_OUT:g}",
                "use a share such as 0.1",
            )
        if self.compile and self.deterministic:
            raise UsageError(
                "--compile picks kernels by timing them, so that its bits are not always the same",
                "leave --compile or --deterministic out",
            )
        if not 0 <= self.ema < 1:
            raise UsageError(f"ema {self.ema:g} is no decay", "use 0 or a value below 1, as 0.999")
        if self.lr is not None and not (math.isfinite(self.lr) and self.lr > 0):
            raise UsageError(f"learning rate {self.lr}", "use a finite value above 0, such as 0.05")

    def _require_choices(self) -> None:
        for what, given, choices in (
            ("recipe", self.recipe, tuple(RECIPES)),
            ("device", self.device, DEVICES),
            ("training precision", self.precision, TRAIN_PRECISIONS),
            ("part to freeze", FREEZABLE[0] if self.freeze is None else self.freeze, FREEZABLE),
        ):
            if given not in choices:
                raise unknown_choice(what, given, choices)

    @property
    def chosen(self) -> Recipe:
        """The recipe of that name, with flips as they are asked for."""
        recipe = next(recipe for name, recipe in RECIPES.items() if name == self.recipe)
        return recipe if self.flip is None else replace(recipe, flip=self.flip)


@dataclass(frozen=True, kw_only=True)
class RunControl:
    """How a run is driven; nothing here changes a weight.

    ``save_every`` is in minutes (0: after every step) and bounds what a power cut costs.
    ``resume`` of "must" raises where there is nothing to go on with, "may" starts afresh there,
    "no" drops what an interrupted run left; ``keep_unfinished`` of "same" refuses to where it was
    this very run, "all" always. ``again`` is the command that goes on with the run, if known.
    """

    save_every: float = 10.0
    max_minutes: float | None = None
    resume: ResumeChoice = "no"
    keep_unfinished: KeepChoice = "none"
    again: str | None = None
    profile: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.save_every) and self.save_every >= 0):
            raise UsageError(f"save-every {self.save_every}", "use minutes, 0 or more")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise UsageError(f"max-minutes {self.max_minutes}", "use a time above 0")
