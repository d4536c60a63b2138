from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from vgg_deploy.data.dataset import Dataset, Split
from vgg_deploy.data.images import to_channels
from vgg_deploy.errors import ResourceLimit
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import ModelCard, ModelSpec
from vgg_deploy.train import setup
from vgg_deploy.train.loop import shown_and_held
from vgg_deploy.train.options import TrainOptions
from vgg_deploy.train.recipes import RECIPES
from vgg_deploy.train.setup import card_for, initial_model, make_optimiser, moments, place

SPEC = ModelSpec.named("1x16-1x32", size=16, channels=1, classes=10, fc_width=64)


def test_the_books_card_changes_nothing_about_pixels(few: Dataset) -> None:
    card = card_for(SPEC, RECIPES["book"], few)
    assert (card.preprocessing.mean, card.preprocessing.std) == ((0.0,), (1.0,))
    assert card.spec.dropout == 0.5
    assert (card.dataset, card.labels) == ("sample", few.labels)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_modern_card_normalises(few: Dataset, channels: int) -> None:
    spec = ModelSpec.named("1x16", size=16, channels=channels, classes=10)
    card = card_for(spec, RECIPES["modern"], few)
    values = few.train.images / 255
    assert card.preprocessing.mean == pytest.approx((values.mean(),) * channels, abs=1e-4)
    assert card.preprocessing.std == pytest.approx((values.std(),) * channels, abs=1e-4)
    assert card.spec.dropout == RECIPES["modern"].dropout


@pytest.mark.parametrize(
    ("count", "share", "own"),
    [(None, 0.2, False), (80, 0.0, False), (80, 0.3, False), (90, 0.0, True)],
)
def test_the_card_is_of_the_images_that_are_trained_with(
    few: Dataset, count: int | None, share: float, own: bool
) -> None:
    """Bright ones are held out, lie beyond the first so many, or are a split of their own."""
    bright_test = np.full_like(few.test.images, 255)
    data = replace(few, validation=Split(bright_test, few.test.labels) if own else None)
    trained = data.trained(count, share)
    bright = np.where(trained[:, None, None, None], data.train.images, 255).astype(np.uint8)
    data = replace(data, train=Split(bright, data.train.labels))
    options = TrainOptions(max_images=count, validation=share)
    card = card_for(SPEC, RECIPES["modern"], data, trained)
    shown, held = shown_and_held(card, data, options, torch.device("cpu"))
    seen = shown.pixels_of(torch.arange(len(shown))).numpy() / 255
    assert len(seen) == trained.sum() < len(few.train)
    assert (held is None) == (not share and not own)
    assert card.preprocessing.mean == pytest.approx((seen.mean(),), abs=1e-4)
    assert card.preprocessing.std == pytest.approx((seen.std(),), abs=1e-4)
    assert card.preprocessing.mean[0] < bright.mean() / 255 - 0.05


@pytest.mark.parametrize("channels", [1, 3])
def test_moments_are_numpys_and_take_little_memory(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (700, 9, 8, 3), np.uint8)
    images[..., 1] //= 3
    whole = to_channels(images, channels).astype(np.float64)
    sizes: list[int] = []

    def watched(part: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
        sizes.append(len(part))
        return to_channels(part, channels)

    monkeypatch.setattr(setup, "to_channels", watched)
    mean, std = moments(images, channels)
    assert mean == pytest.approx(whole.mean(axis=(0, 1, 2)), rel=1e-12)
    assert std == pytest.approx(whole.std(axis=(0, 1, 2)), rel=1e-12)
    assert sum(sizes) == 700
    assert max(sizes) <= 256


def weights(model: VGG) -> list[torch.Tensor]:
    return [m.weight for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def test_xavier_uniform_as_in_the_book() -> None:
    for weight in weights(initial_model(SPEC, RECIPES["book"])):
        receptive = math.prod(weight.shape[2:])
        bound = math.sqrt(6 / (receptive * (weight.shape[0] + weight.shape[1])))
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.9 * bound  # uniform fills its range


def test_only_weights_are_decayed() -> None:
    model = initial_model(SPEC, RECIPES["modern"])
    optimiser = make_optimiser(model, RECIPES["modern"], 0.1)
    decayed, plain = optimiser.param_groups
    assert decayed["weight_decay"] == RECIPES["modern"].weight_decay > 0
    assert plain["weight_decay"] == 0
    assert {id(p) for p in decayed["params"]} == {id(w) for w in weights(model)}
    assert len(decayed["params"]) + len(plain["params"]) == len(list(model.parameters()))


def test_the_books_optimiser_is_plain_sgd() -> None:
    model = initial_model(SPEC, RECIPES["book"])
    optimiser = make_optimiser(model, RECIPES["book"], 0.05)
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.rand(2, 1, 16, 16)).square().mean().backward()
    optimiser.step()
    for old, new in zip(before, model.parameters(), strict=True):
        assert new.grad is not None
        torch.testing.assert_close(new.detach(), old - 0.05 * new.grad)


def test_images_for_which_the_gpu_has_no_room(
    few: Dataset, card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (50_000, 10**9))
    with pytest.raises(
        ResourceLimit, match=r"100 images of 28 px need 0\.0 GB on the GPU"
    ) as caught:
        place(few.train, card, torch.device("cuda", 0))
    assert "--max-images" in caught.value.remedy
    assert caught.value.exit_code == 6
