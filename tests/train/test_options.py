from __future__ import annotations

import math
from dataclasses import replace

import pytest

from vgg_deploy.errors import UsageError
from vgg_deploy.train.options import TrainOptions
from vgg_deploy.train.recipes import RECIPES


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("batch", 0),
        ("batch", -3),
        ("max_images", 0),
        ("validation", -0.1),
        ("validation", 0.6),
        ("validation", float("nan")),
        ("ema", -0.1),
        ("ema", 1.0),
        ("ema", math.nan),
        ("seed", -1),
        ("seed", 2**63),
        ("lr", 0.0),
        ("lr", -1.0),
        ("lr", math.nan),
        ("lr", math.inf),
        ("device", "tpu"),
        ("precision", "fp16"),
        ("recipe", "cook"),
        ("recipe", ""),
        ("freeze", ""),
    ],
)
def test_values_that_cannot_work(name: str, value: object) -> None:
    with pytest.raises(UsageError):
        TrainOptions(**{name: value})  # type: ignore[arg-type]


def test_the_nearest_name() -> None:
    with pytest.raises(UsageError) as caught:
        TrainOptions(recipe="modren")
    assert "'modern'" in caught.value.remedy


def test_chosen() -> None:
    assert TrainOptions(recipe="book").chosen.name == "book"
    assert TrainOptions(recipe="modern").chosen is RECIPES["modern"]


@pytest.mark.parametrize("flip", [True, False])
def test_flips_are_the_recipes_unless_they_are_told(flip: bool) -> None:
    for name in ("book", "modern"):
        expected = replace(RECIPES[name], flip=flip)
        assert TrainOptions(recipe=name, flip=flip).chosen == expected
