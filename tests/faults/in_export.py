"""Faults of an exporter: a network that is not the checkpoint's goes through the real export."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

Edit = Callable[[nn.Module], None]


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


def each_norm(edit: Callable[[nn.BatchNorm2d], None]) -> Edit:
    def plant(network: nn.Module) -> None:
        with torch.no_grad():
            for norm in norms(network):
                edit(norm)

    return plant


def other_eps(norm: nn.BatchNorm2d) -> None:
    norm.eps = 1e-3


def reset(norm: nn.BatchNorm2d) -> None:
    norm.reset_running_stats()


def no_scale(norm: nn.BatchNorm2d) -> None:
    norm.weight.fill_(1)


def no_shift(norm: nn.BatchNorm2d) -> None:
    norm.bias.zero_()


def deviation_for_variance(norm: nn.BatchNorm2d) -> None:
    assert norm.running_var is not None
    norm.running_var.sqrt_()


def flattened_twice(network: nn.Module) -> None:
    """The last block's channels in another order."""
    layer = network.get_submodule("head.fc6")
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(layer.weight.roll(16, dims=1))


def relu_lost(network: nn.Module) -> None:
    network.get_submodule("head").add_module("relu6", nn.Identity())


def half_weights(network: nn.Module) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())


def dropout_left_on(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.train()


IN_PROGRAM: Mapping[str, Edit] = {"dropout left on": dropout_left_on}
IN_NORM: Mapping[str, Edit] = {
    "batch norm with another eps": each_norm(other_eps),
    "batch norm statistics not taken along": each_norm(reset),
    "batch norm scale lost": each_norm(no_scale),
    "batch norm shift lost": each_norm(no_shift),
    "standard deviation taken for variance": each_norm(deviation_for_variance),
}
IN_SCRIPT: Mapping[str, Edit] = {
    "features flattened in another order": flattened_twice,
    "ReLU of fc6 lost in a script": relu_lost,
    "weights of a script in half precision": half_weights,
}
