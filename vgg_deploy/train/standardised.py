"""Convolutions that use their weights with mean 0 and a fixed variance over the fan-in.

Weight standardisation with the gain of a ReLU (Qiao et al. 2019, arXiv:1903.10520; Brock et al.
2021, arXiv:2101.08692). It does for training much of what batch norm does, yet no image's output
depends on the others in its batch; and what is saved is the plain network, with the weights as they
were used.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn

from vgg_deploy.model.vgg import VGG

# One over the deviation of a ReLU of standard normal values: maps keep their variance.
RELU_GAIN = math.sqrt(2 / (1 - 1 / math.pi))
_LEAST = 1e-4  # of a filter's summed squares: one of equal weights is not divided by zero


class StandardisedConv2d(nn.Conv2d):
    """``Conv2d`` with the same state; float32 ``[N, C, H, W]`` in and out."""

    gain: float  # norm of every filter

    @property
    def used(self) -> torch.Tensor:
        """The weight as it is convolved with, ``[out, in, k, k]``."""
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        squares = centred.square().sum((1, 2, 3), keepdim=True)
        return centred * (self.gain * torch.rsqrt(squares + _LEAST))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Convolve with ``used``."""
        maps: torch.Tensor = self._conv_forward(images, self.used, self.bias)
        return maps


def standardise(model: VGG) -> None:
    """Let the convolutions use their weights so, in place; which weights they have stays.

    A 1×1 convolution of one channel is left alone: less its mean its one weight is nothing.
    """
    gain = 1.0  # of the first, whose input comes from no ReLU
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            if layer.weight[0].numel() > 1:
                layer.__class__ = StandardisedConv2d
                cast(StandardisedConv2d, layer).gain = gain
            gain = RELU_GAIN


@torch.no_grad()
def plain_state(model: VGG) -> dict[str, torch.Tensor]:
    """The state of the ``VGG`` without standardisation that computes the same, bit for bit."""
    state: dict[str, torch.Tensor] = model.state_dict()
    for name, layer in model.named_modules():
        if isinstance(layer, StandardisedConv2d):
            state[f"{name}.weight"] = layer.used
    return state
