"""Random changes of training images: what may change, how much, and how often."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

import torch

from vgg_deploy.train.augment import augmented
from vgg_deploy.train.recipes import RECIPES, Recipe

PLAIN = replace(RECIPES["modern"], flip=False, shift=0.0)
COUNT, SIDE = 2000, 28


def images() -> torch.Tensor:
    """uint8 ``[N, 28, 28, 1]``, all alike, in which no part repeats another."""
    one = (torch.arange(SIDE * SIDE) % 251).to(torch.uint8).reshape(1, SIDE, SIDE, 1)
    return one.repeat(COUNT, 1, 1, 1)


def changed(recipe: Recipe, seed: int = 5) -> torch.Tensor:
    torch.manual_seed(seed)
    return augmented(images(), recipe)


def untouched(result: torch.Tensor) -> torch.Tensor:
    """Which images ``[N]`` are as they were."""
    return (result == images()).flatten(1).all(1)


def near(share: float, chance: float) -> bool:
    """Whether a share of the images lies within five deviations of a chance."""
    return abs(share - chance) < 5 * sqrt(chance * (1 - chance) / COUNT)


def test_a_recipe_without_changes_leaves_the_images() -> None:
    assert untouched(changed(PLAIN)).all()


def test_half_of_the_images_are_flipped_left_for_right() -> None:
    result = changed(replace(PLAIN, flip=True))
    same = untouched(result)
    assert torch.equal(result[~same], images().flip(2)[~same])
    assert near(float(same.float().mean()), 0.5)


def test_images_move_by_whole_pixels_up_to_the_share_and_repeat_their_edge() -> None:
    result, start = changed(replace(PLAIN, shift=0.05)), images()  # 1.4 pixels: one
    allowed = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            rows = (torch.arange(SIDE) + down).clamp(0, SIDE - 1)
            columns = (torch.arange(SIDE) + right).clamp(0, SIDE - 1)
            allowed.append((result == start[:, rows][:, :, columns]).flatten(1).all(1))
    found = torch.stack(allowed)
    assert found.any(0).all()
    for each in found.float().mean(1):
        assert near(float(each), 1 / 9)


def test_the_same_seed_changes_alike_and_another_does_not() -> None:
    every = replace(PLAIN, flip=True, shift=0.1)
    assert torch.equal(changed(every), changed(every))
    assert not torch.equal(changed(every), changed(every, seed=6))


def test_all_channels_move_alike_and_the_given_images_stay() -> None:
    start = images().repeat(1, 1, 1, 3)
    torch.manual_seed(1)
    result = augmented(start, replace(PLAIN, flip=True, shift=0.1))
    assert torch.equal(result[..., 0], result[..., 2])
    assert torch.equal(start[..., :1], images())
