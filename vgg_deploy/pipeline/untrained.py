"""Bundles of weights that nobody trained: times, engines and files do not ask what they know."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_deploy.bundle import Bundle, create_bundle
from vgg_deploy.manifest import Draft
from vgg_deploy.model.checkpoint import input_spec, output_spec, save_checkpoint
from vgg_deploy.model.torchvision import IMAGENET_MEAN, IMAGENET_STD
from vgg_deploy.spec import ModelCard, ModelSpec, Preprocessing

if TYPE_CHECKING:
    import torch


def random_state(spec: ModelSpec, *, he_normal: bool = True) -> dict[str, torch.Tensor]:
    """Seeded weights with torch's own biases.

    He-normal, as with torch's own weights the signal dies in a deep network.
    """
    import torch
    from torch import nn

    from vgg_deploy.model.vgg import VGG

    torch.manual_seed(0)
    network = VGG(spec)
    for layer in network.modules():
        if he_normal and isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return network.state_dict()


def untrained_card(
    spec: ModelSpec,
    *,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> ModelCard:
    """Numbered classes and, unless told otherwise, ImageNet's preprocessing."""
    n = spec.channels
    return ModelCard(
        spec=spec,
        preprocessing=Preprocessing(size=spec.size, channels=n, mean=mean[:n], std=std[:n]),
        labels=tuple(f"class {i}" for i in range(spec.classes)),
    )


def untrained_bundle(
    root: Path,
    card: ModelCard,
    state: Mapping[str, torch.Tensor],
    made_by: Mapping[str, str],
    *,
    replace: bool = False,
    own: Collection[str] = (),
) -> Bundle:
    """The bundle ``root`` of these weights; ``replace`` and ``own`` as in ``create_bundle``."""
    draft = Draft(
        format="checkpoint",
        precision="fp32",
        input=input_spec(card),
        output=output_spec(card),
        parent=None,
        made_by=made_by,
    )

    def write(path: Path) -> None:
        save_checkpoint(path, card, state)

    return create_bundle(root, card, draft, write, replace=replace, own=own)[0]
