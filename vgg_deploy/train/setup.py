"""The pieces of a run: card, initial weights, optimiser, images on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vgg_deploy.data.dataset import Dataset, Split
from vgg_deploy.data.images import to_channels
from vgg_deploy.errors import RefusedInput, ResourceLimit
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import ModelCard, ModelSpec, Preprocessing
from vgg_deploy.train.recipes import Recipe

LAST_LAYER = "head.fc8."  # begin of its keys
_COUNTED = 256  # images whose values are counted at once


def card_for(
    spec: ModelSpec,
    recipe: Recipe,
    dataset: Dataset,
    trained: NDArray[np.bool_] | None = None,
    *,
    cropped: bool = False,
) -> ModelCard:
    """The card of a network to be trained: the recipe decides dropout and normalisation.

    Mean and deviation are of the images that ``trained`` marks, those of ``Dataset.trained``; of
    the whole training split for None. With ``cropped`` images keep their proportions: the centre
    of each is what is seen.
    """
    mean, std = (0.0,) * spec.channels, (1.0,) * spec.channels
    if recipe.normalise:
        means, deviations = moments(dataset.train.images, spec.channels, trained)
        mean = tuple(round(v / 255, 4) for v in means)
        std = tuple(max(round(v / 255, 4), 1e-4) for v in deviations)
    return ModelCard(
        spec=replace(spec, dropout=recipe.dropout),
        preprocessing=Preprocessing(
            size=spec.size,
            channels=spec.channels,
            mean=mean,
            std=std,
            resize=spec.size if cropped else None,
        ),
        labels=dataset.labels,
        dataset=dataset.name,
    )


def moments(
    images: NDArray[np.uint8], channels: int, chosen: NDArray[np.bool_] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation per channel, 0..255, from counts of the 256 values of ``chosen`` images.

    Exact, and a few hundred images at a time: numpy's own would hold all of them in float64.
    """
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, len(images), _COUNTED):
        here = slice(start, start + _COUNTED)
        part = images[here] if chosen is None else images[here][chosen[here]]
        part = to_channels(part, channels)
        for channel in range(channels):
            counts[channel] += np.bincount(part[..., channel].ravel(), minlength=256)
    values, total = np.arange(256.0), counts.sum(axis=1)
    mean = counts @ values / total
    square = (counts * (values - mean[:, None]) ** 2).sum(axis=1) / total
    return tuple(mean.tolist()), tuple(np.sqrt(square).tolist())


def initial_model(spec: ModelSpec, recipe: Recipe) -> VGG:
    """A network with the recipe's initial weights, from torch's global random numbers.

    Xavier-uniform as in the book leaves torch's biases; Kaiming-normal (fan in, ReLU) sets
    them to zero.
    """
    model = VGG(spec)
    for layer in model.modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        if recipe.init == "xavier-uniform":
            nn.init.xavier_uniform_(layer.weight)
        else:
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return model


def begin_with(model: nn.Module, start: Mapping[str, torch.Tensor]) -> None:
    """Take the weights whose shapes fit; a head for other classes keeps its random ones.

    ``RefusedInput`` when anything but the last layer differs.
    """
    own = model.state_dict()
    other = [k for k in own if k not in start or start[k].shape != own[k].shape]
    if not all(key.startswith(LAST_LAYER) for key in other):
        raise RefusedInput(
            f"the weights to begin with do not fit: {', '.join(other[:3])}",
            "fine-tune the network they are of",
        )
    model.load_state_dict({k: v for k, v in start.items() if k not in other}, strict=False)


def make_optimiser(model: nn.Module, recipe: Recipe, lr: float) -> torch.optim.Optimizer:
    """SGD in one fused kernel over all that is trained; only weights are decayed."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(
        groups, lr=lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True
    )


def place(split: Split, card: ModelCard, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images ``[N, H, W, C]`` and int64 labels ``[N]`` on the device.

    Raises ``RefusedInput`` for an empty split and for labels the network has no class for,
    ``ResourceLimit`` where the GPU has no room for the images.
    """
    if not len(split):
        raise RefusedInput("there are no images to train or test with", "use a data set with some")
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= card.spec.classes:
        raise RefusedInput(
            f"labels {low}..{high} for a network of {card.spec.classes} classes",
            "give the network one class per label",
        )
    images = np.ascontiguousarray(to_channels(split.images, card.spec.channels))
    if device.type == "cuda":
        _require_room(images, device)
    return torch.from_numpy(images).to(device), torch.from_numpy(split.labels).to(device)


def _require_room(images: NDArray[np.uint8], device: torch.device) -> None:
    free, _ = torch.cuda.mem_get_info(device)
    if images.nbytes > free:
        count, side = images.shape[:2]
        raise ResourceLimit(
            f"{count:,} images of {side} px need {images.nbytes / 1e9:.1f} GB on the GPU, "
            f"{free / 1e9:.1f} are free",
            "use a smaller --size or --max-images, or --device cpu",
        )
