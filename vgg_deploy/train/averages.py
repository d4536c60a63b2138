"""The exponential moving average of the weights over the steps of a run."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from vgg_deploy.model.vgg import VGG


class Averages:
    """A second network, whose weights follow those of the one that is trained.

    Batch norm's statistics are averaged as well: its own are those of the newest weights, which
    the averaged ones trail behind. What training leaves alone, frozen weights, and what has no
    average, batch norm's counters, is shared with the trained network.
    """

    def __init__(self, model: VGG, decay: float) -> None:
        self.decay = decay
        state = model.state_dict(keep_vars=True)
        averaged = {name: value for name, value in state.items() if _is_averaged(value)}
        shared = {id(value): value for name, value in state.items() if name not in averaged}
        self.model = deepcopy(model, shared).eval()
        copies = self.model.state_dict()
        self.tensors = {name: copies[name] for name in averaged}
        self._weights = [value.detach() for value in averaged.values()]

    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1; nothing waits for the device.

        With n steps before it the decay is (1 + n) / (10 + n) until that is what was asked for:
        short runs are not ruled by their initial weights.
        """
        decay = min(self.decay, step / (9 + step))
        # not AveragedModel: its update reads a count from the device in every step
        get_ema_multi_avg_fn(decay)([*self.tensors.values()], self._weights, step)


def _is_averaged(value: torch.Tensor) -> bool:
    return value.requires_grad if isinstance(value, nn.Parameter) else value.is_floating_point()
