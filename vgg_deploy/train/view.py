"""The network as it is trained: the same numbers, computed in a cheaper order."""

from __future__ import annotations

import torch
from torch import nn

from vgg_deploy.model.vgg import VGG


class TrainingView(nn.Module):
    """A VGG whose last ReLU of each block runs after the pool instead of before it.

    The largest of four values, cut off at zero, is the largest of four values cut off at zero:
    outputs and gradients are bit for bit those of ``VGG``, and the ReLU sees a quarter of the
    values. With ``frozen`` the convolutions are in eval mode and get no gradient.
    """

    def __init__(self, model: VGG, *, frozen: bool = False) -> None:
        super().__init__()
        self.model = model
        self.frozen = frozen
        if frozen:
            model.blocks.requires_grad_(requires_grad=False)

    def train(self, mode: bool = True) -> TrainingView:
        """As always, but frozen batch norm keeps its statistics."""
        super().train(mode)
        if self.frozen:
            self.model.blocks.eval()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, classes]`` of float32 ``[N, C, S, S]``."""
        x = images
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            for block in self.model.blocks:
                x = _pooled_first(block, x)
        logits: torch.Tensor = self.model.head(torch.flatten(self.model.pool(x), 1))
        return logits


def _pooled_first(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    *layers, last, pool = block.children()
    swapped = (pool, last) if isinstance(last, nn.ReLU) else (last, pool)  # LRN does not commute
    for layer in (*layers, *swapped):
        x = layer(x)
    return x
