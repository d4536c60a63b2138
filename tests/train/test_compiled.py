"""``train --compile``: the same training by other kernels, and what it cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from tests.train.ranks import Ranks
from tests.train.test_auto_batch import Notes
from tests.train.test_distributed import assert_same
from tests.train.test_loop import quick
from tests.train.test_restart import MUST, Signalled, final, stop_after
from vgg_deploy import jsonio
from vgg_deploy.compiler import lacking
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import BackendNotAvailable, ResourceLimit, UsageError
from vgg_deploy.inductor import compile_errors
from vgg_deploy.model.checkpoint import load_state
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.loop import train
from vgg_deploy.train.make import make_trainer
from vgg_deploy.train.options import RunControl, TrainOptions
from vgg_deploy.train.outcome import RunPlan, Silent
from vgg_deploy.train.profile import StepProfile
from vgg_deploy.train.step import Trainer

compiles = pytest.mark.skipif(lacking() is not None, reason=str(lacking()))


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    """Each network of a process counts towards dynamo's limit."""
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


@pytest.fixture
def steady(card: ModelCard) -> ModelCard:
    """Without dropout, whose masks come from other random numbers once compiled."""
    return replace(card, spec=replace(card.spec, dropout=0.0))


def trainer_of(card: ModelCard, **changes: object) -> Trainer:
    torch.manual_seed(0)
    return make_trainer(card, quick(**changes), torch.device("cpu"))


@compiles
@pytest.mark.parametrize(
    "recipe", ["book", pytest.param("modern", marks=pytest.mark.slow), "modern-bn"]
)
def test_gradients_are_those_of_the_network_as_it_is(steady: ModelCard, recipe: str) -> None:
    if recipe == "modern-bn":
        steady = replace(steady, spec=replace(steady.spec, batch_norm=True))
    eager, made = (trainer_of(steady, recipe=recipe, compile=c) for c in (False, True))
    pixels = torch.randint(0, 256, (12, 28, 28, 1), dtype=torch.uint8)
    labels = torch.arange(12) % 10
    for trainer in (eager, made):
        trainer.network.train()
        torch.manual_seed(1)  # of the augmentation
        trainer.backward(pixels, labels, 12)
    compared = zip(eager.model.named_parameters(), made.model.named_parameters(), strict=True)
    for (name, one), (_, other) in compared:
        assert one.grad is not None, name
        assert other.grad is not None, name
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-4, atol=1e-5, msg=name)
    assert counters["stats"]["unique_graphs"] == 1  # the whole network, and nothing run as it is


@compiles
@pytest.mark.slow
def test_a_whole_run(tmp_path: Path, steady: ModelCard, few: Dataset) -> None:
    """With a last batch of four images, which is a shape of its own, and each in two pieces."""
    plans: list[RunPlan] = []

    class Started(Silent):
        def on_start(self, plan: RunPlan, /) -> None:
            plans.append(plan)

    options = quick(recipe="book", accumulate=2)
    plain = train(steady, few, options, tmp_path / "plain")
    made = train(steady, few, replace(options, compile=True), tmp_path / "made", Started())
    assert [row.loss for row in made.rows] == pytest.approx(
        [row.loss for row in plain.rows], rel=1e-4
    )
    one, other = (load_state(tmp_path / name / "last.safetensors") for name in ("plain", "made"))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-4)
    assert made.made_by["compile"] == "True"
    assert "compile" not in plain.made_by
    assert [plan.compiled for plan in plans] == [True]


@compiles
@pytest.mark.slow
def test_a_profile_knows_compiled_kernels(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    """On the CPU they have names only where they were made with them."""
    watch, options = Notes(), quick(batch=8, epochs=1, compile=True)
    train(card, few, options, tmp_path, watch, RunControl(profile=True))
    found = jsonio.load(StepProfile, tmp_path / "profile.json")
    assert found.kinds["fused by inductor"] > 0
    assert (found.precision, found.compiled) == ("fp32", True)
    assert " ms in fp32, compiled: " in watch.notes[0]


@compiles
@pytest.mark.slow
def test_a_run_that_was_stopped_has_the_same_bits(
    tmp_path: Path, card: ModelCard, few: Dataset
) -> None:
    """Dropout included: its numbers come from the seed of the step."""
    train(card, few, quick(compile=True), tmp_path / "whole")
    stop_after(tmp_path / "cut", card, few, 3, compile=True)
    train(card, few, quick(compile=True), tmp_path / "cut", Signalled(0), MUST)
    assert final(tmp_path / "cut") == final(tmp_path / "whole")


@compiles
@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert Ranks(1, one).wait() == [0]
    assert Ranks(2, two, compile=True).wait(300) == [0, 0]
    assert_same(two, one)


def test_not_with_deterministic() -> None:
    with pytest.raises(UsageError, match="--compile picks kernels by timing") as caught:
        TrainOptions(compile=True, deterministic=True)
    assert "leave --compile or --deterministic out" in caught.value.remedy


def test_without_a_compiler(card: ModelCard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BackendNotAvailable, match="no-such-compiler") as caught:
        trainer_of(card, compile=True)
    assert "train without --compile" in caught.value.remedy


def test_a_compiler_that_fails(
    card: ModelCard, few: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "false")
    with (
        torch._inductor.utils.fresh_cache(),
        pytest.raises(BackendNotAvailable, match="training could not compile") as caught,
    ):
        train(card, few, quick(compile=True), tmp_path)
    assert "\n" not in caught.value.cause
    assert caught.value.remedy == "train without --compile"


def test_a_full_disk_is_not_the_compilers_fault() -> None:
    from torch._inductor.exc import CppCompileError

    full = CppCompileError(["g++"], "x.cpp:1: fatal error: No space left on device")
    with pytest.raises(ResourceLimit, match="No space left") as caught, compile_errors("training"):
        raise full
    assert "TMPDIR" in caught.value.remedy
