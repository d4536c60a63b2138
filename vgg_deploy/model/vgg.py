"""The network: ``vgg_block`` and ``VGG``, as in *Dive into Deep Learning* §7.2."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

from vgg_deploy.spec import ModelSpec

# Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep CNNs" (2012), §3.3.
_LRN_SIZE, _LRN_ALPHA, _LRN_BETA, _LRN_K = 5, 1e-4, 0.75, 2.0


def vgg_block(
    num_convs: int,
    in_channels: int,
    out_channels: int,
    *,
    pointwise: int = 0,
    batch_norm: bool = False,
    lrn: bool = False,
    ceil_mode: bool = False,
) -> nn.Sequential:
    """``num_convs`` convolutions of 3×3 with padding 1, each with ReLU, then a 2×2 max pool.

    The last ``pointwise`` convolutions are 1×1. ``[N, in_channels, H, W]`` becomes
    ``[N, out_channels, H/2, W/2]``; an odd side loses its last row, or keeps it with
    ``ceil_mode``.
    """
    layers: list[nn.Module] = []
    for index in range(num_convs):
        kernel = 1 if index >= num_convs - pointwise else 3
        layers.append(nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2))
        if batch_norm:
            layers.append(nn.BatchNorm2d(out_channels))
        layers.append(nn.ReLU(inplace=True))
        if lrn and index == 0:
            layers.append(nn.LocalResponseNorm(_LRN_SIZE, _LRN_ALPHA, _LRN_BETA, _LRN_K))
        in_channels = out_channels
    layers.append(nn.MaxPool2d(2, 2, ceil_mode=ceil_mode))
    return nn.Sequential(*layers)


class WindowMeans(nn.Module):
    """``AdaptiveAvgPool2d`` of a square map as two matrix products, which every format has.

    ``[N, C, side, side]`` becomes ``[N, C, pooled, pooled]``. Windows are of several sizes where
    ``pooled`` does not divide ``side``, and one pooling operator has one size; but a mean over a
    window is that over its rows of those over its columns. ``weight`` ``[pooled, side]`` follows
    from the sides and is in no checkpoint.
    """

    weight: torch.Tensor

    def __init__(self, side: int, pooled: int) -> None:
        super().__init__()
        rows = torch.zeros(pooled, side, dtype=torch.float64)
        for index, row in enumerate(rows):
            window = slice(index * side // pooled, -(-(index + 1) * side // pooled))
            row[window] = 1 / (window.stop - window.start)
        self._exact = rows
        self.register_buffer("weight", rows.to(torch.get_default_dtype()), persistent=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """The means of all windows."""
        return torch.matmul(self.weight, torch.matmul(maps, self.weight.T))

    def _apply(
        self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True
    ) -> WindowMeans:
        """A third in float64 has more digits than the float32 it was."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.weight.copy_(self._exact)
        return self


class VGG(nn.Module):
    """VGG of a spec: float32 ``[N, channels, size, size]`` to logits ``[N, classes]``."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.blocks = nn.Sequential(*_blocks(spec))
        self.pool = _pool(spec)
        self.head = _head(spec)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits, without softmax."""
        features: torch.Tensor = self.pool(self.blocks(images))
        logits: torch.Tensor = self.head(torch.flatten(features, 1))
        return logits


def _blocks(spec: ModelSpec) -> list[nn.Sequential]:
    pointwise = spec.pointwise or (0,) * len(spec.conv_arch)
    blocks, in_channels = [], spec.channels
    for index, (num_convs, out_channels) in enumerate(spec.blocks):
        block = vgg_block(
            num_convs,
            in_channels,
            out_channels,
            pointwise=pointwise[index],
            batch_norm=spec.batch_norm,
            lrn=spec.lrn and index == 0,
            ceil_mode=spec.ceil_mode,
        )
        blocks.append(block)
        in_channels = out_channels
    return blocks


def _pool(spec: ModelSpec) -> nn.Module:
    """From the last map to what the head flattens; where that is the map itself, nothing."""
    side = spec.map_sizes[-1]
    if side == spec.pooled_size:
        return nn.Identity()
    if spec.head == "gap":
        return nn.AvgPool2d(side)
    if side % spec.pooled_size:
        return WindowMeans(side, spec.pooled_size)
    return nn.AdaptiveAvgPool2d((spec.pooled_size, spec.pooled_size))


def _head(spec: ModelSpec) -> nn.Sequential:
    """The fully connected layers, under the names the paper's literature gives them."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    features = spec.flat_features
    for name in spec.fc_layers[:-1]:
        number = name.removeprefix("fc")
        layers[name] = nn.Linear(features, spec.fc_width)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        layers[f"drop{number}"] = nn.Dropout(spec.dropout)
        features = spec.fc_width
    layers[spec.fc_layers[-1]] = nn.Linear(features, spec.classes)
    return nn.Sequential(layers)
