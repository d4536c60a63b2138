"""The moving average of the weights: what it is, and that it is what is tested and saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import make_card
from tests.train.test_loop import Recorder, quick
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.model.checkpoint import load_model, load_state
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.averages import Averages
from vgg_deploy.train.loop import train
from vgg_deploy.train.make import make_trainer
from vgg_deploy.train.outcome import TrainResult
from vgg_deploy.train.store import Store

DECAY = 0.9


@pytest.fixture
def normed() -> ModelCard:
    return make_card("1x4-1x8_bn", size=16)


def pretend_step(model: VGG) -> None:
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(torch.randn(value.shape) if value.is_floating_point() else 1)


def test_the_formula_with_its_warm_up(normed: ModelCard) -> None:
    """Of weights and statistics, beside float64; the decay of 0.5 is reached at the ninth step."""
    torch.manual_seed(0)
    model, count = VGG(normed.spec), 12
    averages = Averages(model, 0.5)
    expected = {name: value.double() for name, value in model.state_dict().items()}
    for n in range(count):
        pretend_step(model)
        averages.update(n + 1)
        decay = min(0.5, (1 + n) / (10 + n))
        for name, value in model.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    for name, value in averages.model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert int(value) == count
            continue
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-5)


def test_what_training_leaves_alone_is_not_kept_twice(normed: ModelCard) -> None:
    trainer = make_trainer(normed, quick(ema=DECAY, freeze="features"), torch.device("cpu"))
    assert trainer.averages is not None
    own, other = trainer.model.state_dict(), trainer.deployed.state_dict()
    shared = {name for name, value in own.items() if value.data_ptr() == other[name].data_ptr()}
    frozen = {name for name, _ in trainer.model.blocks.named_parameters(prefix="blocks")}
    assert shared == frozen | {name for name in own if name.endswith("num_batches_tracked")}
    assert trainer.averages.tensors.keys() == own.keys() - shared


@pytest.fixture
def averaged(tmp_path: Path, normed: ModelCard, few: Dataset) -> TrainResult:
    return train(normed, few, quick(ema=DECAY), tmp_path / "averaged")


def test_the_averages_are_tested_and_saved(
    averaged: TrainResult, tmp_path: Path, normed: ModelCard, few: Dataset
) -> None:
    found = Store(tmp_path / "averaged").newest()
    assert found is not None
    last = load_state(averaged.last_path)
    for name, value in last.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, found[1][f"averages.{name}"])
            assert not torch.equal(value, found[1][f"model.{name}"])
    x = torch.from_numpy(preprocess(few.test.images, normed.preprocessing))
    for path, row in ((averaged.best_path, averaged.best), (averaged.last_path, averaged.rows[-1])):
        with torch.inference_mode():
            logits = load_model(path)(x)
        assert row.test_accuracy == np.mean(logits.argmax(1).numpy() == few.test.labels)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(few.test.labels))
        assert row.test_loss == pytest.approx(float(loss), rel=1e-5)


def test_training_itself_stays_as_it_is(
    averaged: TrainResult, tmp_path: Path, normed: ModelCard, few: Dataset
) -> None:
    watch = Recorder()
    plain = train(normed, few, quick(), tmp_path / "plain", watch)
    weights = load_state(plain.last_path)
    found = Store(tmp_path / "averaged").newest()
    assert found is not None
    assert all(torch.equal(found[1][f"model.{name}"], value) for name, value in weights.items())
    assert [row.loss for row in averaged.rows] == [row.loss for row in plain.rows]
    assert averaged.made_by.items() - plain.made_by.items() == {("ema", str(DECAY))}
    assert not any(name.startswith("averages.") for name in _stored(tmp_path / "plain"))


def _stored(run: Path) -> list[str]:
    found = Store(run).newest()
    assert found is not None
    return list(found[1])
