"""Costs counted without torch, against torch itself and published figures."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vgg_deploy.errors import UsageError
from vgg_deploy.model.layers import vgg_layers
from vgg_deploy.model.summary import against, summarise
from vgg_deploy.model.vgg import VGG, vgg_block
from vgg_deploy.spec import HEADS, ModelSpec

# torchvision's documentation: parameters (M), multiply-adds (G)
PUBLISHED = {
    "vgg11": (132.863336, 7.61), "vgg13": (133.047848, 11.31),
    "vgg16": (138.357544, 15.47), "vgg19": (143.66724, 19.63),
    "vgg16_bn": (138.365992, 15.47),
}  # fmt: skip


@pytest.mark.parametrize("arch", PUBLISHED)
def test_costs_are_the_published_ones(arch: str) -> None:
    cost = summarise(ModelSpec.named(arch)).cost
    params, macs = PUBLISHED[arch]
    assert cost.params / 1e6 == pytest.approx(params, abs=1e-6)
    assert cost.macs / 1e9 == pytest.approx(macs, abs=0.005)


SPECS = [
    ModelSpec.named(arch, width=1 / 8, size=size, channels=1, classes=10, fc_width=64)
    for arch in ("vgg11", "vgg11_lrn", "vgg13_bn", "vgg16_1x1", "1x8-2x16")
    for size in (64, 50)
]
SPECS += [
    ModelSpec.named(f"1x8-1x{16 + hidden}", size=64, channels=1, fc_width=64, hidden=hidden)
    for hidden in (0, 1)
]
SPECS += [
    replace(SPECS[-1], arch=head, head=head, size=size)
    for head in HEADS
    for size in (56, 20)
    if head != "book"
]


def saved_for_backward(network: VGG, images: torch.Tensor) -> int:
    """Bytes of distinct storages that autograd keeps, parameters and buffers apart."""
    own = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}
    alive = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(images)
    return sum(kept.values())


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.arch}-{s.size}")
def test_counted_costs_are_the_networks_own(spec: ModelSpec) -> None:
    network = VGG(spec).train()
    layers = vgg_layers(spec)
    assert sum(layer.params for layer in layers) == sum(p.numel() for p in network.parameters())
    batch = 4
    measured = saved_for_backward(network, torch.randn(batch, 1, spec.size, spec.size)) / batch
    # batch norm's statistics are per batch, hence not exact
    assert sum(layer.saved_bytes for layer in layers) == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.arch}-{s.size}")
def test_rows_are_the_shapes_that_torch_makes(spec: ModelSpec) -> None:
    network = VGG(spec).eval()
    x = torch.zeros(1, 1, spec.size, spec.size)
    rows = {row.name: row.shape for row in summarise(spec).rows}
    for index, block in enumerate(network.blocks, start=1):
        x = block(x)
        assert tuple(x.shape[1:]) == rows[f"block{index}"]
    assert rows["fc8"] == (spec.classes,)


def test_the_three_missing_layers_are_told() -> None:
    """Exercise 1 of the book: 11 layers, but 8 rows of blocks and fully connected ones."""
    summary = summarise(ModelSpec.named("vgg11"))
    assert len(summary.weight_layers) == 11
    assert "8 convolutions inside 5 blocks" in summary.notes[-1]


def test_alexnet_is_cheaper() -> None:
    spec = ModelSpec.named("vgg11", channels=1, classes=10)
    alexnet = against(spec, "alexnet")
    assert alexnet.cost.params == 46_764_746  # the book's AlexNet for one channel, ten classes
    assert summarise(spec).cost.macs > 5 * alexnet.cost.macs
    with pytest.raises(UsageError, match=r"pool\d"):
        against(ModelSpec.named("vgg11", size=32), "alexnet")


def test_vgg_block_is_the_books() -> None:
    block = vgg_block(2, 3, 8)
    assert [type(layer).__name__ for layer in block] == [
        "Conv2d", "ReLU", "Conv2d", "ReLU", "MaxPool2d"
    ]  # fmt: skip
    assert block(torch.zeros(1, 3, 10, 10)).shape == (1, 8, 5, 5)
