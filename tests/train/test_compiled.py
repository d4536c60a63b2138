"""``train --compile``: the same training by other kernels, and what it cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from torch._inductor.exc import CppCompileError, InductorError

from tests.train.ranks import Ranks
from tests.train.test_auto_batch import Notes
from tests.train.test_distributed import assert_same
from tests.train.test_loop import quick
from tests.train.test_restart import MUST, Signalled, final, stop_after
from vgg_deploy import jsonio
from vgg_deploy.compiler import compiler, lacking
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import BackendNotAvailable, ResourceLimit, UsageError, VggDeployError
from vgg_deploy.inductor import compile_errors
from vgg_deploy.model.checkpoint import load_state
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.auto_batch import fitting
from vgg_deploy.train.compiled import CompiledNetwork, backward_of
from vgg_deploy.train.loop import train
from vgg_deploy.train.make import make_trainer
from vgg_deploy.train.options import RunControl, TrainOptions
from vgg_deploy.train.outcome import RunPlan, Silent
from vgg_deploy.train.profile import StepProfile
from vgg_deploy.train.setup import place
from vgg_deploy.train.step import Images, Trainer

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


@compiles
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


@compiles
@pytest.mark.parametrize(
    ("said", "kind"),
    [("it broke", BackendNotAvailable), ("Cannot allocate memory", ResourceLimit)],
)
def test_a_compiler_that_fails_in_the_backward_pass(
    said: str,
    kind: type[VggDeployError],
    card: ModelCard,
    few: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its kernels are made when the first loss is differentiated."""
    script, begun = tmp_path / "fails-later", tmp_path / "begun"
    fails = f'if test -e {begun}; then echo "error: {said}" >&2; exit 1; fi'
    script.write_text(f'#!/bin/sh\n{fails}\nexec {compiler()} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CXX", str(script))
    real = torch.Tensor.backward

    def backward(loss: torch.Tensor) -> None:
        begun.touch()
        try:
            real(loss)  # type: ignore[no-untyped-call]
        finally:
            begun.unlink()

    monkeypatch.setattr(torch.Tensor, "backward", backward)
    with (
        torch._inductor.utils.fresh_cache(),
        pytest.raises(kind, match=f"training could not compile: .*{said}") as caught,
    ):
        train(card, few, quick(compile=True), tmp_path / "run")
    assert "\n" not in caught.value.cause


@pytest.mark.parametrize("within", ["forward", "backward"])
def test_a_gpu_that_is_full_while_compiling_halves_the_batch(
    within: str, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it is full while running: ``--auto-batch`` has smaller ones to try."""
    plain = trainer_of(card, batch=8)
    network = CompiledNetwork(plain.network)
    full = InductorError(torch.OutOfMemoryError("CUDA out of memory."), None)

    def compiled(images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = plain.network(images)
        if len(images) > 2 and within == "forward":
            raise full
        if len(images) > 2:
            logits.register_hook(fail)
        return logits

    def fail(_: torch.Tensor) -> None:
        raise full

    monkeypatch.setattr(network, "_compiled", compiled)
    data = Images(*place(few.train, card, torch.device("cpu")))
    assert fitting(replace(plain, network=network), data) == 4


class Parallel(torch.nn.Module):
    """Holds a network as ``DistributedDataParallel`` does."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module


@pytest.mark.parametrize("parallel", [False, True])
def test_only_the_first_backward_pass_of_a_shape_compiles(parallel: bool) -> None:
    plain = torch.nn.Identity()
    made = CompiledNetwork(plain)
    network = Parallel(made) if parallel else made
    one, other = torch.Size([8]), torch.Size([4])
    broken = CppCompileError(["g++"], "error: it broke")
    with pytest.raises(BackendNotAvailable), backward_of(network, one):
        raise broken
    with backward_of(network, one):
        pass
    assert isinstance(backward_of(network, one), nullcontext)
    with pytest.raises(BackendNotAvailable), backward_of(network, other):
        raise broken
    assert isinstance(backward_of(plain, one), nullcontext)


def test_a_full_disk_is_not_the_compilers_fault() -> None:
    full = CppCompileError(["g++"], "x.cpp:1: fatal error: No space left on device")
    with pytest.raises(ResourceLimit, match="No space left") as caught, compile_errors("training"):
        raise full
    assert "TMPDIR" in caught.value.remedy
