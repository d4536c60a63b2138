from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import make_card
from tests.train.conftest import cut
from vgg_deploy import jsonio
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.errors import RefusedInput, TrainingDiverged
from vgg_deploy.files import sha256_of
from vgg_deploy.model.checkpoint import load_model, load_state, read_card
from vgg_deploy.spec import ModelCard
from vgg_deploy.train import run as run_module
from vgg_deploy.train import step as step_module
from vgg_deploy.train.distributed import World
from vgg_deploy.train.epoch import Classified, Progress, Steps, train_epoch
from vgg_deploy.train.hardware import has_bf16
from vgg_deploy.train.loop import train
from vgg_deploy.train.make import make_trainer
from vgg_deploy.train.meter import Meter
from vgg_deploy.train.options import TrainOptions
from vgg_deploy.train.outcome import EpochRow, Evaluation, RunPlan, Silent, TrainResult
from vgg_deploy.train.recipes import RECIPES
from vgg_deploy.train.setup import place
from vgg_deploy.train.step import Images

FILES = ["best.safetensors", "evaluation.json", "last.safetensors", "metrics.jsonl"]


def quick(**changes: object) -> TrainOptions:
    defaults = {"epochs": 2, "batch": 32, "precision": "fp32", "device": "cpu"}
    return TrainOptions(**{**defaults, **changes})  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    """Files of a run; its checkpoints are looked at in test_restart.py."""
    return sorted(p.name for p in folder.iterdir() if p.name != "checkpoints")


def of_accuracy(accuracy: float, loss: float = 1.0) -> Classified:
    nothing = torch.zeros(40, dtype=torch.int64)
    return Classified(loss=loss, accuracy=accuracy, predicted=nothing, probability=nothing.double())


class Recorder(Silent):
    """Keeps what it is told; stops the run as Ctrl-C does after ``stop_at`` images."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.plans: list[RunPlan] = []
        self.steps: list[tuple[int, int, float]] = []
        self.rows: list[EpochRow] = []
        self.stop_at = stop_at

    def on_start(self, plan: RunPlan, /) -> None:
        self.plans.append(plan)

    def on_step(self, done_images: int, total_images: int, loss: float, /) -> None:
        self.steps.append((done_images, total_images, loss))
        if self.stop_at is not None and done_images >= self.stop_at:
            raise KeyboardInterrupt

    def on_epoch(self, row: EpochRow, /) -> None:
        self.rows.append(row)


@pytest.fixture
def done(tmp_path: Path, card: ModelCard, few: Dataset) -> TrainResult:
    return train(card, few, quick(epochs=3), tmp_path / "run")


def test_what_a_run_leaves(done: TrainResult, tmp_path: Path, card: ModelCard) -> None:
    assert names(tmp_path / "run") == FILES
    assert read_card(done.best_path) == card
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [EpochRow(**json.loads(line)) for line in lines] == list(done.rows)
    assert [row.epoch for row in done.rows] == [1, 2, 3]
    assert done.best.test_accuracy == max(row.test_accuracy for row in done.rows)


def test_stored_accuracy_is_that_of_the_stored_weights(
    done: TrainResult, few: Dataset, card: ModelCard
) -> None:
    for path, row in ((done.best_path, done.best), (done.last_path, done.rows[-1])):
        x = torch.from_numpy(preprocess(few.test.images, card.preprocessing))
        with torch.inference_mode():
            logits = load_model(path)(x).numpy()
        assert row.test_accuracy == np.mean(logits.argmax(1) == few.test.labels)


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_same_seed_same_bytes(tmp_path: Path, card: ModelCard, few: Dataset, recipe: str) -> None:
    def digest(name: str, seed: int) -> str:
        return sha256_of(
            train(card, few, quick(recipe=recipe, seed=seed), tmp_path / name).last_path
        )

    first = digest("a", 3)
    torch.manual_seed(99)  # what the caller did with torch's random numbers must not matter
    assert digest("b", 3) == first
    assert digest("c", 4) != first


def test_the_callers_random_numbers_are_left_alone(
    tmp_path: Path, card: ModelCard, few: Dataset
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(card, few, quick(epochs=1), tmp_path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_it_learns(tmp_path: Path, recipe: str) -> None:
    card = make_card("1x8-1x16", size=28)
    card = replace(card, spec=replace(card.spec, dropout=0.1))  # 32 features: half is too many
    rows = train(card, cut(2000, 300), quick(recipe=recipe, epochs=5), tmp_path).rows
    assert rows[-1].loss < 0.75 * rows[0].loss
    assert rows[-1].test_accuracy > 0.6  # chance is 0.1; eight seeds of the book's: 0.69 to 0.79
    assert rows[-1].test_loss < rows[0].test_loss


def test_bf16_computes_the_same(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    if not has_bf16(torch.device("cpu")):
        pytest.skip("this processor has no bf16 instructions")
    exact, fast = Recorder(), Recorder()
    train(card, few, quick(), tmp_path / "a", exact)
    train(card, few, quick(precision="bf16"), tmp_path / "b", fast)
    assert fast.plans[0].precision == "bf16"
    for (_, _, one), (_, _, other) in zip(exact.steps[:2], fast.steps[:2], strict=True):
        assert other != one
        assert other == pytest.approx(one, rel=0.02)
    assert all(v.dtype == torch.float32 for v in load_state(tmp_path / "b" / FILES[0]).values())


def explode(at: float) -> object:
    return lambda recipe, peak, progress: 1e30 if progress >= at else peak


def test_divergence_keeps_the_last_good_checkpoint(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_module, "learning_rate", explode(0.5))  # in the second epoch
    watch = Recorder()
    with pytest.raises(TrainingDiverged, match=r"in epoch 2, by step \d") as caught:
        train(card, few, quick(epochs=2), tmp_path, watch)
    assert caught.value.exit_code == 9
    assert "lower --lr" in caught.value.remedy
    assert str(tmp_path / "last.safetensors") in caught.value.remedy
    assert names(tmp_path) == FILES
    assert all(torch.isfinite(v).all() for v in load_state(tmp_path / FILES[2]).values())
    assert len(watch.rows) == 1
    assert watch.steps[-1][0] < 2 * len(few.train)  # at once, not at the end of the epoch


@pytest.mark.parametrize("lr", [1e6, 1e38])
def test_a_hopeless_learning_rate(tmp_path: Path, card: ModelCard, few: Dataset, lr: float) -> None:
    with pytest.raises(TrainingDiverged) as caught:
        train(card, few, quick(recipe="book", lr=lr, epochs=5), tmp_path)
    assert f"it was {lr:g}" in caught.value.remedy


def test_weights_ruined_by_the_very_last_step(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_module, "learning_rate", explode(0.95))
    monkeypatch.setattr(run_module, "evaluate", lambda *a: of_accuracy(0.5))
    monkeypatch.setattr(torch.optim.SGD, "step", ruin)
    with pytest.raises(TrainingDiverged, match="weights"):
        train(card, few, quick(epochs=1, batch=100), tmp_path)
    assert not names(tmp_path)


def ruin(optimiser: torch.optim.SGD) -> None:
    with torch.no_grad():
        optimiser.param_groups[0]["params"][0].fill_(math.inf)


@pytest.mark.parametrize(("stop_at", "expected"), [(50, []), (150, FILES)])
def test_ctrl_c_leaves_whole_files(
    tmp_path: Path, card: ModelCard, few: Dataset, stop_at: int, expected: list[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        train(card, few, quick(), folder, Recorder(stop_at))
    assert names(folder) == expected
    if expected:
        load_model(folder / "last.safetensors")
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 1


def test_ctrl_c_leaves_an_older_run_as_it_was(
    tmp_path: Path, card: ModelCard, few: Dataset
) -> None:
    train(card, few, quick(), tmp_path)
    before = [sha256_of(tmp_path / name) for name in FILES]
    with pytest.raises(KeyboardInterrupt):
        train(card, few, quick(seed=1), tmp_path, Recorder(60))
    assert [sha256_of(tmp_path / name) for name in FILES] == before


def test_what_the_listener_hears(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    watch = Recorder()
    train(card, few, quick(), tmp_path, watch)
    (plan,) = watch.plans
    assert (plan.train_images, plan.test_images, plan.epochs, plan.batch) == (100, 40, 2, 32)
    assert plan.parameters == sum(v.numel() for v in load_state(tmp_path / FILES[0]).values())
    assert [done for done, _, _ in watch.steps] == [32, 64, 96, 100, 132, 164, 196, 200]
    assert {total for _, total, _ in watch.steps} == {200}
    assert all(loss is not None and 0 < loss < 10 for _, _, loss in watch.steps)
    assert [row.epoch for row in watch.rows] == [1, 2]


def test_a_step_that_is_saved_is_waited_for_within_its_time(card: ModelCard, few: Dataset) -> None:
    cpu = torch.device("cpu")
    trainer, meter, progress = make_trainer(card, quick(), cpu), Meter(cpu, World()), Progress()
    meter._lag = 1  # as on a GPU
    arrived: list[int] = []
    steps = Steps(
        stop=lambda: False,
        arrived=lambda _figures: None,
        saves=lambda _stopping: progress.step % 2 == 0,
        after=lambda _stopping: arrived.append(progress.images),
    )
    train_epoch(trainer, Images(*place(few.train, card, cpu)), progress, meter, steps)
    assert arrived == [0, 64, 64, 100]


def test_a_run_of_one_step_trains(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    options = quick(epochs=1, batch=100)
    torch.manual_seed(options.seed)
    before = make_trainer(card, options, torch.device("cpu")).model.state_dict()
    result = train(card, few, options, tmp_path)
    assert 0 < result.rows[0].lr < RECIPES["modern"].lr
    after = load_state(result.last_path)
    assert not any(torch.equal(before[k], after[k]) for k in before if k.endswith("weight"))


def test_max_images(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    watch = Recorder()
    result = train(card, few, quick(max_images=33, epochs=1), tmp_path, watch)
    assert watch.plans[0].train_images == 33
    assert result.made_by["train_images"] == "33"


def test_a_last_batch_of_one_image(tmp_path: Path, few: Dataset) -> None:
    bn = make_card("1x4-1x8_bn", size=4)  # maps of 1×1: batch norm needs two images
    result = train(bn, few, quick(max_images=33, epochs=1), tmp_path)
    assert math.isfinite(result.best.loss)


def test_made_by_says_what_shaped_the_weights(done: TrainResult) -> None:
    made_by = done.made_by
    assert all(isinstance(v, str) and v for v in made_by.values())
    expected = {
        "recipe": "modern",
        "epochs": "3",
        "batch": "32",
        "seed": "0",
        "lr": str(RECIPES["modern"].lr),
        "training_precision": "fp32",
        "device": "cpu",
        "dataset": "sample",
        "train_images": "100",
        "torch": torch.__version__.split("+")[0],
    }
    assert expected.items() <= {k: v.split("+")[0] for k, v in made_by.items()}.items()
    assert made_by["recipe_weight_decay"] == str(RECIPES["modern"].weight_decay)


def test_made_by_keeps_every_digit(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    options = quick(lr=0.0123456789, validation=0.12345678901, epochs=1)
    made_by = train(card, few, options, tmp_path).made_by
    assert float(made_by["lr"]) == options.lr
    assert float(made_by["validation"]) == options.validation


def test_refusals(tmp_path: Path, card: ModelCard, few: Dataset, empty: Dataset) -> None:
    with pytest.raises(RefusedInput, match="no images"):
        train(card, empty, quick(), tmp_path / "a")
    two = replace(card, spec=replace(card.spec, classes=2), labels=("x", "y"))
    with pytest.raises(RefusedInput, match="2 classes"):
        train(two, few, quick(), tmp_path / "a")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RefusedInput):
        train(card, few, quick(), tmp_path / "file")
    assert names(tmp_path) == ["file"]


def test_grey_images_for_an_rgb_network(tmp_path: Path, few: Dataset) -> None:
    result = train(make_card("1x4", size=16, channels=3), few, quick(epochs=1), tmp_path)
    assert math.isfinite(result.best.test_loss)


def test_the_evaluation_is_that_of_the_best_weights(
    done: TrainResult, few: Dataset, card: ModelCard, tmp_path: Path
) -> None:
    found = jsonio.load(Evaluation, tmp_path / "run" / "evaluation.json")
    with torch.inference_mode():
        x = torch.from_numpy(preprocess(few.test.images, card.preprocessing))
        logits = load_model(done.best_path)(x)
    predicted, truth = logits.argmax(1).numpy(), few.test.labels
    matrix = np.zeros((10, 10), int)
    np.add.at(matrix, (truth, predicted), 1)
    assert np.array_equal(np.array(found.confusion), matrix)
    assert found.mistakes == (predicted != truth).sum()
    assert [m.probability for m in found.worst] == sorted(
        (m.probability for m in found.worst), reverse=True
    )
    for mistake in found.worst:
        assert mistake.truth == truth[mistake.index] != predicted[mistake.index]
        expected = logits[mistake.index].double().softmax(0).max()
        assert mistake.probability == pytest.approx(float(expected), rel=1e-5)
