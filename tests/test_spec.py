"""Table 1, sizes and the values that make no network."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from vgg_deploy import jsonio
from vgg_deploy.errors import RefusedInput, UsageError
from vgg_deploy.spec import ARCHS, Head, ModelCard, ModelSpec, Preprocessing

PAPER = {  # Table 1: number of weight layers
    "vgg11": 11, "vgg11_lrn": 11, "vgg13": 13, "vgg16_1x1": 16, "vgg16": 16, "vgg19": 19,
}  # fmt: skip


@pytest.mark.parametrize(("arch", "layers"), PAPER.items())
def test_weight_layers_are_the_papers(arch: str, layers: int) -> None:
    assert ModelSpec.named(arch).weight_layers == layers


def test_width_scales_convolutions_and_not_the_head() -> None:
    spec = ModelSpec.named("vgg11", width=0.25)
    assert spec.blocks == ((1, 16), (1, 32), (2, 64), (2, 128), (2, 128))
    assert spec.fc_width == 4096


@pytest.mark.parametrize(
    ("size", "sides"),
    [(224, (224, 112, 56, 28, 14, 7)), (96, (96, 48, 24, 12, 6, 3)), (50, (50, 25, 12, 6, 3, 1))],
)
def test_maps_halve_and_drop_the_odd_row(size: int, sides: tuple[int, ...]) -> None:
    assert ModelSpec.named("vgg11", size=size).map_sizes == sides


def test_28_px_needs_ceil_mode() -> None:
    with pytest.raises(UsageError, match="28 → 14 → 7 → 3 → 1 → 0") as caught:
        ModelSpec.named("vgg11", size=28)
    assert "--ceil-mode" in caught.value.remedy
    assert ModelSpec.named("vgg11", size=28, ceil_mode=True).map_sizes[-1] == 1


@pytest.mark.parametrize("arch", ["vgg12", "resnet50", "1x", "", "1x16_2x32"])
def test_unknown_architectures_name_the_known(arch: str) -> None:
    with pytest.raises(UsageError) as caught:
        ModelSpec.named(arch)
    assert all(name in caught.value.remedy for name in ARCHS)


@pytest.mark.parametrize(
    "arch",
    ["1000000000x64", "1001x64", "1x65537", "-".join(["1x1"] * 1001), f"1x{'9' * 5000}"],
)
def test_what_nobody_could_build_is_refused_at_once(arch: str) -> None:
    with pytest.raises(UsageError, match="no network that could be built") as caught:
        ModelSpec.named(arch, size=4096, ceil_mode=True)
    assert "1,000 convolutions of at most 65,536 channels" in caught.value.remedy
    assert ModelSpec.named("1000x65536").weight_layers == 1003


def test_the_nearest_name_is_suggested() -> None:
    with pytest.raises(UsageError) as caught:
        ModelSpec.named("vgg16bn")
    assert "did you mean 'vgg16_bn'" in caught.value.remedy


@pytest.mark.parametrize(
    "wrong",
    [{"width": 0.0}, {"channels": 2}, {"classes": 1}, {"size": 0}, {"head": "x"}, {"fc_width": 0}],
)
def test_values_out_of_range(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        ModelSpec.named("vgg11", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["classes", "size", "fc_width", "channels"])
def test_a_number_of_hundreds_of_digits(name: str) -> None:
    for value in (10**400, -(10**400)):
        with pytest.raises(UsageError, match=f"{name} of hundreds of digits is out of range"):
            ModelSpec.named("vgg11", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("head", "side"), [("book", 3), ("torchvision", 7), ("gap", 1)])
def test_what_a_head_flattens(head: Head, side: int) -> None:
    spec = ModelSpec.named("vgg11", size=96, head=head)
    assert (spec.map_sizes[-1], spec.pooled_size, spec.flat_features) == (3, side, 512 * side**2)


def test_a_card_whose_parts_do_not_fit() -> None:
    spec = ModelSpec.named("vgg11", classes=10, channels=1)
    grey = Preprocessing(size=224, channels=1, mean=(0.0,), std=(1.0,))
    with pytest.raises(UsageError, match="3 labels for 10 classes"):
        ModelCard(spec=spec, preprocessing=grey, labels=("a", "b", "c"))
    other = Preprocessing(size=96, channels=1, mean=(0.0,), std=(1.0,))
    with pytest.raises(UsageError, match="takes 1×224"):
        ModelCard(spec=spec, preprocessing=other, labels=tuple("abcdefghij"))


def test_preprocessing_refuses_what_cannot_be() -> None:
    scale = Preprocessing(size=32, channels=1, mean=(0.0,), std=(1.0,))
    with pytest.raises(UsageError):
        Preprocessing(size=32, channels=3, mean=(0.0,), std=(1.0,))
    with pytest.raises(UsageError):
        Preprocessing(size=32, channels=1, mean=(0.0,), std=(0.0,))
    with pytest.raises(UsageError):
        Preprocessing(size=32, channels=1, mean=(0.0,), std=(1.0,), resize=16)
    for wrong in (math.nan, math.inf, -math.inf):
        with pytest.raises(UsageError, match=r"mean .* is not finite"):
            replace(scale, mean=(wrong,))
        with pytest.raises(UsageError, match=r"std .* is not finite"):
            replace(scale, std=(wrong,))
    for ends in ((5.0, -5.0), (1.0, 1.0), (0.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(UsageError, match="range"):
            replace(scale, value_range=ends)
    p = Preprocessing(size=32, channels=1, mean=(0.5,), std=(0.5,))
    assert p.input_range == (-1.0, 1.0)


@pytest.mark.parametrize("wrong", ['"mean":[NaN]', '"std":[1e999]', '"value_range":[5,-5]'])
def test_a_card_that_was_edited_is_refused(wrong: str) -> None:
    text = jsonio.dumps(Preprocessing(size=32, channels=1, mean=(0.0,), std=(1.0,)), indent=None)
    key = wrong.partition(":")[0]
    edited = re.sub(rf"{key}:\[[^]]*\]", wrong, text)
    assert edited != text
    with pytest.raises(RefusedInput, match="does not hold a valid preprocessing"):
        jsonio.loads(Preprocessing, edited, source="the card")
