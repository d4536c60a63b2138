"""Small networks whose outputs depend on their inputs, and the comparison of an export with them.

torch's default initialisation lets the signal die: after a few layers the logits are the biases,
and a wrongly wired export would pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from tests.conftest import make_card
from vgg_deploy.bundle import Bundle, create_bundle
from vgg_deploy.manifest import Draft
from vgg_deploy.model.checkpoint import input_spec, load_model, output_spec, save_checkpoint
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import ARCHS, Head, ModelCard, ModelSpec, Preprocessing

BATCHES = (1, 2, 5)
Run = Callable[[torch.Tensor], torch.Tensor]


def card_of(spec: ModelSpec) -> ModelCard:
    """A card around any spec."""
    card = make_card(size=spec.size, channels=spec.channels)
    labels = tuple(f"class {i}" for i in range(spec.classes))
    return replace(card, spec=spec, labels=labels)


def named(
    arch: str,
    *,
    size: int = 32,
    channels: int = 3,
    head: Head = "book",
    ceil_mode: bool = False,
    hidden: int = 2,
) -> ModelCard:
    """A narrow network of a named or custom architecture."""
    spec = ModelSpec.named(
        arch,
        size=size,
        channels=channels,
        width=1 / 16 if arch in ARCHS else 1.0,
        classes=10,
        fc_width=32,
        head=head,
        ceil_mode=ceil_mode,
        hidden=hidden,
    )
    return card_of(spec)


CARDS = {
    **{arch: named(arch) for arch in ARCHS},
    "grey": named("1x4-2x8", channels=1),
    "odd_50": named("1x4-1x8-1x8", size=50),
    "ceil_50": named("1x4-1x8-1x8", size=50, ceil_mode=True),
    "ceil_28": named("1x4-1x8-1x8-1x8-1x8", size=28, channels=1, ceil_mode=True),
    "ceil_50_bn": named("1x4-1x8-1x8_bn", size=50, ceil_mode=True),
    "map_1x1": named("1x4-1x8-1x8", size=8),
    "head_7": named("1x4-1x4", size=28, head="torchvision"),
    "head_14": named("1x4-1x4", size=56, head="torchvision"),
    "head_2": named("1x4-1x4", size=8, head="torchvision"),
    "head_10": named("1x4-2x8_bn", size=40, head="torchvision"),
    "hidden_1": named("1x4-2x8", size=16, hidden=1),
    "hidden_0": named("1x4-2x8_bn", size=16, hidden=0),
    "gap": named("1x4-2x8", head="gap", hidden=0),
    "gap_1x1": named("1x4-2x8-1x8", size=8, head="gap", hidden=1),
}


def lively_state(spec: ModelSpec, *, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights that keep the signal's size, and batch norm statistics as after training."""
    torch.manual_seed(seed)
    network = VGG(spec)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.normal_(layer.bias, std=0.1)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.3)
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(std=0.5)
            layer.running_var.uniform_(0.3, 3.0)
    return network.state_dict()


def lively_bundle(root: Path, card: ModelCard, *, seed: int = 0) -> Bundle:
    """A bundle with such a checkpoint and nothing else."""
    return bundle_with(root, card, lively_state(card.spec, seed=seed))


def bundle_with(root: Path, card: ModelCard, state: dict[str, torch.Tensor]) -> Bundle:
    """A bundle of a checkpoint alone."""
    draft = Draft(
        format="checkpoint",
        precision="fp32",
        input=input_spec(card),
        output=output_spec(card),
        parent=None,
        made_by={"made_by": "tests"},
    )
    return create_bundle(
        root, card, draft, lambda path: save_checkpoint(path, card, state), replace=True
    )[0]


def check_equal(bundle: Bundle, run: Run) -> None:
    """``run`` gives torch's logits for every batch size, to a few units in the last place."""
    network, spec = load_model(bundle.path(bundle.checkpoint)), bundle.card.spec
    generator = torch.Generator().manual_seed(1)
    for batch in BATCHES:
        images = torch.randn(batch, spec.channels, spec.size, spec.size, generator=generator)
        with torch.no_grad():
            want, got = network(images), run(images)
        assert got.shape == want.shape
        scale = want.abs().max().item()
        if batch > 1:  # the check is worth something only if the logits follow the input
            assert (want[0] - want[1]).abs().max().item() > 1e-3 * scale
        assert (got - want).abs().max().item() <= 1e-5 * scale


def preprocessing_of(text: str) -> Preprocessing:
    """Read back what an export carries."""
    from vgg_deploy import jsonio

    return jsonio.loads(Preprocessing, text, source="the exported file")
