"""Heads as other people write them: other names, other shapes, the same function."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from vgg_deploy.errors import RefusedInput
from vgg_deploy.model.torchvision import fitted, infer_spec
from vgg_deploy.model.vgg import VGG

ARCH = "1x6-1x8_bn"  # pooled twice


def features(*, bias: bool = True) -> nn.Sequential:
    """torchvision's ``features`` of ``ARCH``, with batch norm as after training."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels, width in ((3, 6), (6, 8)):
        norm = nn.BatchNorm2d(width)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
        convolution = nn.Conv2d(channels, width, 3, padding=1, bias=bias)
        layers += [convolution, norm, nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


class Other(nn.Module):
    """Somebody's VGG: features, a pool, a classifier."""

    def __init__(
        self, classifier: nn.Module, pool: nn.Module | None = None, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.features = features(bias=bias)
        self.pool = pool or nn.Identity()
        self.classifier = classifier

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.pool(self.features(images)).flatten(1))
        return logits


class Timm(nn.Module):
    """timm's VGG: fc6 and fc7 are convolutions, fc8 stands behind a global pool."""

    def __init__(self) -> None:
        super().__init__()
        self.features = features()
        self.pre_logits = nn.Module()
        self.pre_logits.fc1, self.pre_logits.fc2 = nn.Conv2d(8, 16, 7), nn.Conv2d(16, 16, 1)
        self.head = nn.Module()
        self.head.fc = nn.Linear(16, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.features(images)
        for layer in self.pre_logits.children():
            x = layer(x).relu()
        logits: torch.Tensor = self.head.get_submodule("fc")(x.mean((2, 3)))
        return logits


def three(first: int, *, before: int = 0) -> nn.Sequential:
    """Three fully connected layers, the first one at an index of one's own."""
    lead = [nn.Dropout() for _ in range(before)]
    return nn.Sequential(
        *lead, nn.Linear(first, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 16), nn.ReLU(),
        nn.Linear(16, 5),
    )  # fmt: skip


def logits(
    module: nn.Module, size: int | None, state: Mapping[str, torch.Tensor] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What ``module`` and our network with its weights answer to the same noise."""
    state = module.state_dict() if state is None else state
    spec = infer_spec(state, ARCH, size=size)
    ours = VGG(spec).double().eval()
    ours.load_state_dict(fitted(spec, state, source="x.pth"))
    noise = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, spec.size, spec.size, generator=noise, dtype=torch.float64)
    with torch.inference_mode():
        return module.double().eval()(images), ours(images)


def check_same(module: nn.Module, size: int | None = None) -> None:
    want, got = logits(module, size)
    assert got.shape == want.shape
    assert (want[0] - want[1]).abs().max() > 1e-3, "the logits must follow the image"
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("before", [0, 1, 7], ids=["0", "1", "beyond ten"])
def test_wherever_the_three_layers_stand(before: int) -> None:
    check_same(Other(three(8 * 4 * 4, before=before)))


def test_a_last_layer_inside_a_sequential() -> None:
    head = three(8 * 4 * 4)
    head[5] = nn.Sequential(nn.Dropout(), nn.Linear(16, 5))
    check_same(Other(head))


def test_convolutions_without_bias() -> None:
    check_same(Other(three(8 * 4 * 4), bias=False))


def test_one_bias_that_is_missing_is_not_made_up() -> None:
    state = Other(three(8 * 4 * 4)).state_dict()
    del state["features.0.bias"]
    with pytest.raises(RefusedInput, match=r"missing: blocks\.0\.0\.bias"):
        fitted(infer_spec(state, ARCH), state, source="x.pth")


def test_timms_convolutions_are_the_fully_connected_layers() -> None:
    module = Timm()
    check_same(module)
    by_name = dict(sorted(module.state_dict().items()))  # as a safetensors file has them
    want, got = logits(module, 28, by_name)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_timms_head_over_a_larger_map_is_refused() -> None:
    with pytest.raises(RefusedInput, match="slides over a map of 14×14") as caught:
        infer_spec(Timm().state_dict(), ARCH, size=56)
    assert "--size 28" in caught.value.remedy
