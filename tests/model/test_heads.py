"""Heads as other people write them: other names, other shapes, the same function."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import nn
from torch.nn import functional

from vgg_deploy.errors import RefusedInput
from vgg_deploy.model.infer import infer_spec
from vgg_deploy.model.keys import book_names, torchvision_names
from vgg_deploy.model.torchvision import fitted
from vgg_deploy.model.vgg import VGG, WindowMeans
from vgg_deploy.spec import ModelSpec

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
        x = functional.adaptive_avg_pool2d(x, max(7, x.shape[2]))
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


@pytest.mark.parametrize("size", [4, 12, 24])
def test_timm_pools_smaller_maps_as_torchvision_does(size: int) -> None:
    check_same(Timm(), size)


@pytest.mark.parametrize("size", [4, 16, 24, 32, 40, 56, 60])
def test_torchvisions_pool_of_any_map(size: int) -> None:
    module = Other(three(8 * 7 * 7), nn.AdaptiveAvgPool2d((7, 7)))
    assert infer_spec(module.state_dict(), ARCH, size=size).head == "torchvision"
    check_same(module, size)


@pytest.mark.parametrize("side", range(1, 21))
def test_window_means_are_torchs_adaptive_pool(side: int) -> None:
    maps = torch.randn(2, 3, side, side, dtype=torch.float64)
    want = functional.adaptive_avg_pool2d(maps, 7)
    torch.testing.assert_close(WindowMeans(side, 7).double()(maps), want, rtol=1e-14, atol=1e-15)
    as_float32 = WindowMeans(side, 7)(maps.float())
    torch.testing.assert_close(as_float32, want.float())


@pytest.mark.parametrize(
    ("side", "kind"), [(5, WindowMeans), (7, nn.Identity), (14, nn.AdaptiveAvgPool2d)]
)
def test_maps_of_sevens_are_pooled_by_one_operator(side: int, kind: type[nn.Module]) -> None:
    """Files that were exported of them keep their bytes."""
    network = VGG(ModelSpec.named(ARCH, size=4 * side, fc_width=16, head="torchvision"))
    assert type(network.pool) is kind
    assert not any(key.startswith("pool") for key in network.state_dict())


def test_timms_head_over_a_larger_map_is_refused() -> None:
    with pytest.raises(RefusedInput, match="slides over a map of 14×14") as caught:
        infer_spec(Timm().state_dict(), ARCH, size=56)
    assert "--size 28" in caught.value.remedy


@pytest.mark.parametrize(
    ("head", "hidden"),
    [
        (nn.Linear(8 * 4 * 4, 5), 0),
        (nn.Sequential(nn.Linear(8 * 4 * 4, 16), nn.ReLU(), nn.Linear(16, 5)), 1),
        (nn.Sequential(nn.Dropout(), nn.Linear(8 * 4 * 4, 5)), 0),
    ],
    ids=["one layer", "one hidden", "Dropout in front"],
)
@pytest.mark.parametrize("size", [16, None])
def test_shorter_heads(head: nn.Module, hidden: int, size: int | None) -> None:
    module = Other(head)
    spec = infer_spec(module.state_dict(), ARCH, size=size)
    assert (spec.hidden, spec.head, spec.size, spec.classes) == (hidden, "book", 16, 5)
    check_same(module, size)


def test_the_books_and_our_own_names_of_a_shorter_head() -> None:
    spec = ModelSpec.named(ARCH, size=16, classes=5, fc_width=16, hidden=1)
    state = VGG(spec).state_dict()
    for names in (book_names(spec), torchvision_names(spec), {name: name for name in state}):
        theirs = {
            f"{names.get(layer, layer)}.{parameter}": tensor
            for layer, parameter, tensor in ((*k.rsplit(".", 1), v) for k, v in state.items())
        }
        ours = fitted(infer_spec(theirs, ARCH), theirs, source="x.pth")
        assert all(torch.equal(ours[key], state[key]) for key in state)


@pytest.mark.parametrize("size", [16, 22])
def test_a_global_average(size: int) -> None:
    module = Other(nn.Linear(8, 5), nn.AdaptiveAvgPool2d(1))
    spec = infer_spec(module.state_dict(), ARCH, size=size)
    assert (spec.head, spec.hidden, spec.size) == ("gap", 0, size)
    check_same(module, size)
    assert infer_spec(module.state_dict(), ARCH).head == "book", "a map of 1×1 needs no average"
    assert infer_spec(module.state_dict(), ARCH, head="gap").size == 224


def refused(module: nn.Module, size: int | None = None) -> RefusedInput:
    with pytest.raises(RefusedInput) as caught:
        infer_spec(module.state_dict(), ARCH, size=size)
    return caught.value


def test_two_hidden_widths_are_told() -> None:
    head = three(8 * 4 * 4)
    head[3], head[5] = nn.Linear(16, 12), nn.Linear(12, 5)
    error = refused(Other(head))
    assert "those of 1x6-1x8_bn (width 1, 3 channels)" in error.cause
    assert "two hidden widths, 16 and 12" in error.cause
    assert "zeros, which changes no answer" in error.remedy
    narrow = Other(head)
    state = narrow.state_dict()
    wide = {
        **state,
        "classifier.3.weight": functional.pad(state["classifier.3.weight"], (0, 0, 0, 4)),
        "classifier.3.bias": functional.pad(state["classifier.3.bias"], (0, 4)),
        "classifier.5.weight": functional.pad(state["classifier.5.weight"], (0, 4)),
    }
    want, got = logits(narrow, 16, wide)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_a_fourth_layer_is_told() -> None:
    head = three(8 * 4 * 4)
    head[5] = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5))
    assert "4 fully connected layers (16, 16, 12, 5 outputs)" in refused(Other(head)).cause


def test_a_classifier_of_another_name_is_told() -> None:
    module = Other(nn.Identity())
    module.add_module("top", nn.Linear(8, 5))
    error = refused(module)
    assert "no fully connected layers of a known name; there are top.weight" in error.cause
    assert "classifier.0" in error.remedy


def test_a_size_that_is_not_the_classifiers_is_told() -> None:
    module = Other(three(8 * 4 * 4))
    error = refused(module, 32)
    assert error.cause == "the classifier takes maps of 4×4, an input of 32 px gives 8×8"
    assert error.remedy == "use --size 16"
    check_same(module, 16)
