"""Standardised convolutions: what they compute, and that the plain network is what is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import make_card
from tests.train.test_loop import quick
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.preprocess import preprocess_torch
from vgg_deploy.model.checkpoint import load_model
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import ModelCard, ModelSpec
from vgg_deploy.train.identity import exact_context
from vgg_deploy.train.loop import Start, train
from vgg_deploy.train.make import made_by, make_trainer
from vgg_deploy.train.recipes import RECIPES
from vgg_deploy.train.setup import LAST_LAYER, initial_model
from vgg_deploy.train.standardised import RELU_GAIN, StandardisedConv2d, plain_state, standardise

CPU = torch.device("cpu")


def network(arch: str = "1x8-2x16", size: int = 16) -> VGG:
    torch.manual_seed(0)
    spec = ModelSpec.named(arch, size=size, channels=1, classes=10, fc_width=32)
    model = VGG(spec)
    standardise(model)
    return model


def standardised(model: nn.Module) -> list[StandardisedConv2d]:
    return [layer for layer in model.modules() if isinstance(layer, StandardisedConv2d)]


def require_norms(weights: Sequence[torch.Tensor]) -> None:
    """Of each filter: 1 in the first layer, the gain of a ReLU in the others."""
    for index, weight in enumerate(weights):
        norms = weight.detach().double().square().sum((1, 2, 3)).sqrt()
        expected = torch.full_like(norms, RELU_GAIN if index else 1.0)
        torch.testing.assert_close(norms, expected, rtol=1e-2, atol=0)


def test_every_filter_has_mean_zero_and_one_norm() -> None:
    used = [layer.used.detach() for layer in standardised(network())]
    assert len(used) == 3
    require_norms(used)
    for weight in used:
        assert float(weight.mean((1, 2, 3)).abs().max()) < 1e-7


def test_scale_and_offset_of_a_filter_change_nothing() -> None:
    layer = standardised(network())[1]
    before = layer.used.detach().clone()
    with torch.no_grad():
        layer.weight.mul_(3).add_(0.7)
    torch.testing.assert_close(layer.used, before, rtol=1e-3, atol=1e-5)


def test_a_filter_of_equal_weights_is_nothing_and_finite() -> None:
    layer = standardised(network())[1]
    with torch.no_grad():
        layer.weight[0] = 0.25
    assert torch.equal(layer.used[0], torch.zeros_like(layer.used[0]))
    layer.used.sum().backward()
    assert layer.weight.grad is not None
    assert bool(torch.isfinite(layer.weight.grad).all())


def test_the_gain_keeps_the_variance_of_deep_maps() -> None:
    """Of twelve convolutions and their ReLUs; the padding takes a little at every border."""
    torch.manual_seed(1)
    model = VGG(ModelSpec.named("12x32", size=32, channels=3, classes=10, fc_width=32))
    standardise(model)
    x, seen = torch.randn(8, 3, 32, 32), []
    for layer in model.blocks[0].children():
        x = layer(x).detach()
        if isinstance(layer, nn.Conv2d):
            seen.append(float(x.var()))
    assert len(seen) == 12
    assert all(0.5 < variance < 1.5 for variance in seen)


@pytest.mark.parametrize("training", [True, False])
def test_the_plain_network_computes_the_same_bits(training: bool) -> None:
    model = network().train(training)
    plain = VGG(replace(model.spec, dropout=0.0)).train(training)
    plain.load_state_dict(plain_state(model))
    model.head.eval()
    assert not standardised(plain)
    x = torch.randn(5, 1, 16, 16)
    assert torch.equal(model(x), plain(x))


def test_what_is_not_standardised_is_taken_as_it_is() -> None:
    spec = ModelSpec.named("1x8_bn", size=16, channels=1, classes=10)
    model = VGG(spec)
    state = model.state_dict()
    found = plain_state(model)
    assert list(found) == list(state)
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_a_pointwise_convolution_of_one_channel_is_left_alone() -> None:
    model = network()
    first = model.blocks[0]
    assert isinstance(first, nn.Sequential)
    first[0] = nn.Conv2d(1, 8, 1)
    standardise(model)
    assert len(standardised(model)) == 2


@pytest.fixture
def plain_card() -> ModelCard:
    return make_card("1x4-1x8", size=16)


@pytest.mark.parametrize(
    ("recipe", "arch", "begun", "count"),
    [
        ("modern", "1x4-1x8", False, 2),
        ("book", "1x4-1x8", False, 0),
        ("fine-tune", "1x4-1x8", False, 0),
        ("modern", "1x4-1x8_bn", False, 0),  # batch norm does it already
        ("modern", "1x4-1x8", True, 0),  # trained weights have the size they have
    ],
)
def test_when_it_is_done(few: Dataset, recipe: str, arch: str, begun: bool, count: int) -> None:
    card = make_card(arch, size=16)
    start = initial_model(card.spec, RECIPES["book"]).state_dict() if begun else None
    options = quick(recipe=recipe)
    trainer = make_trainer(card, options, CPU, start=start)
    assert len(standardised(trainer.model)) == count
    made = made_by(trainer, [exact_context(trainer)], card, few, options, 1, 0)
    assert made["recipe_standardise"] == str(count > 0)


@pytest.mark.parametrize(
    ("recipe", "begun", "init", "normalised"),
    [
        ("book", "", "xavier-uniform", "False"),
        ("modern", "", "kaiming-normal", "True"),
        ("modern", "all", "from weights", "False"),
        ("fine-tune", "all", "from weights", "False"),
        ("book", "less", "from weights, the last layer xavier-uniform", "False"),
        ("fine-tune", "other", "from weights, the last layer kaiming-normal", "False"),
    ],
)
def test_where_weights_and_inputs_began_is_on_record(
    few: Dataset, plain_card: ModelCard, recipe: str, begun: str, init: str, normalised: str
) -> None:
    classes = 7 if begun == "other" else 10
    spec = replace(plain_card.spec, classes=classes)
    state = initial_model(spec, RECIPES["book"]).state_dict()
    if begun == "less":
        state = {k: v for k, v in state.items() if not k.startswith(LAST_LAYER)}
    options = quick(recipe=recipe)
    trainer = make_trainer(plain_card, options, CPU, start=state if begun else None)
    made = made_by(trainer, [exact_context(trainer)], plain_card, few, options, 1, 0)
    assert (made["recipe_init"], made["recipe_normalise"]) == (init, normalised)


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}], ids=["weights", "averages"])
def test_what_is_saved_is_the_plain_network_that_was_tested(
    tmp_path: Path, plain_card: ModelCard, few: Dataset, changes: dict[str, object]
) -> None:
    result = train(plain_card, few, quick(recipe="modern", **changes), tmp_path)
    saved = load_model(result.best_path)
    assert not standardised(saved)
    x = preprocess_torch(torch.from_numpy(few.test.images), plain_card.preprocessing)
    with torch.inference_mode():
        right = saved(x).argmax(1) == torch.from_numpy(few.test.labels)
    assert float(right.float().mean()) == pytest.approx(result.best.test_accuracy)
    layers = [layer for layer in saved.blocks.modules() if isinstance(layer, nn.Conv2d)]
    require_norms([layer.weight for layer in layers])  # averaged first, standardised afterwards


def test_training_goes_on_from_what_was_saved(
    tmp_path: Path, plain_card: ModelCard, few: Dataset
) -> None:
    """The bundle's weights begin the next training as they are."""
    result = train(plain_card, few, quick(recipe="modern"), tmp_path / "one")
    state = load_model(result.best_path).state_dict()
    trainer = make_trainer(plain_card, quick(recipe="fine-tune"), CPU, start=state)
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, state[name]), name
    train(plain_card, few, quick(recipe="fine-tune"), tmp_path / "two", start=Start(state))
