"""The reordered network: bit for bit the plain one."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import make_card
from vgg_deploy.model.vgg import VGG
from vgg_deploy.train.view import TrainingView


@pytest.mark.parametrize("arch", ["2x4-1x8", "1x4-2x8_bn", "vgg11_lrn"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_and_gradients_are_those_of_the_plain_network(
    arch: str, dtype: torch.dtype
) -> None:
    spec = make_card(arch, size=32).spec
    torch.manual_seed(0)
    model = VGG(spec)
    x = torch.randn(4, 1, 32, 32).round(decimals=1)  # with ties
    found = []
    for network in (model, TrainingView(model)):
        network.train()
        torch.manual_seed(1)  # the same dropout
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = network(x)
        model.zero_grad()
        y.float().square().sum().backward()
        found.append([y.detach(), *(p.grad for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
