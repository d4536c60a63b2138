"""Random changes of training images, for a whole batch at once and on its device."""

from __future__ import annotations

import torch

from vgg_deploy.train.recipes import Recipe


def augmented(images: torch.Tensor, recipe: Recipe) -> torch.Tensor:
    """uint8 ``[N, H, W, C]`` as the recipe wants them, from torch's global random numbers."""
    if recipe.flip:
        images = _flipped(images)
    if recipe.shift:
        images = _shifted(images, recipe.shift)
    return images


def _flipped(images: torch.Tensor) -> torch.Tensor:
    """Every image left for right, or not, with a chance of one half."""
    chosen = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(chosen[:, None, None, None], images.flip(2), images)


def _shifted(images: torch.Tensor, share: float) -> torch.Tensor:
    """Moved by up to ``share`` of each side in whole pixels; the edge is repeated behind it."""
    count, height, width, _ = images.shape
    rows, columns = (
        _moved(count, side, max(1, round(share * side)), images.device) for side in (height, width)
    )
    every = torch.arange(count, device=images.device)[:, None, None]
    return images[every, rows[:, :, None], columns[:, None, :]]


def _moved(count: int, side: int, most: int, device: torch.device) -> torch.Tensor:
    """Source positions ``[count, side]`` of one axis."""
    offsets = torch.randint(-most, most + 1, (count, 1), device=device)
    return (torch.arange(side, device=device) + offsets).clamp_(0, side - 1)
