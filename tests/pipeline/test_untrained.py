"""Bundles of random weights, as scripts and the check of a machine use them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vgg_deploy.errors import RefusedInput
from vgg_deploy.model.checkpoint import load_model
from vgg_deploy.pipeline.untrained import random_state, untrained_bundle, untrained_card
from vgg_deploy.replacing import TRAINING
from vgg_deploy.spec import ModelSpec

SPEC = ModelSpec.named("vgg11", width=0.25, size=32, channels=1, classes=10, fc_width=64)


def spread(root: Path, *, he_normal: bool) -> float:
    """Standard deviation of the logits over random inputs."""
    state = random_state(SPEC, he_normal=he_normal)
    bundle = untrained_bundle(root, untrained_card(SPEC), state, {"weights": "random"})
    bundle.check()
    model = load_model(bundle.path(bundle.checkpoint)).eval()
    with torch.no_grad():
        logits = model(torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(1)))
    return float(logits.std(dim=0).mean())


def test_he_normal_weights_keep_the_signal_that_others_lose(tmp_path: Path) -> None:
    assert spread(tmp_path / "he", he_normal=True) > 100 * spread(tmp_path / "own", he_normal=False)


def test_they_are_the_same_each_time() -> None:
    first, again = random_state(SPEC), random_state(SPEC)
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_the_preprocessing_has_the_channels_of_the_network() -> None:
    assert untrained_card(SPEC).preprocessing.mean == (0.485,)
    colour = untrained_card(ModelSpec.named("vgg11"))
    assert len(colour.preprocessing.std) == 3
    assert len(colour.labels) == 1000


def test_a_bundle_is_replaced_only_where_that_was_asked_for(tmp_path: Path) -> None:
    card, state = untrained_card(SPEC), random_state(SPEC)
    untrained_bundle(tmp_path / "x", card, state, {})
    (tmp_path / "x" / TRAINING).mkdir()
    with pytest.raises(RefusedInput):
        untrained_bundle(tmp_path / "x", card, state, {})
    untrained_bundle(tmp_path / "x", card, state, {}, replace=True, own=(TRAINING,))
    assert (tmp_path / "x" / TRAINING).exists()
