"""torch on a GPU: the rows, and all of the code but the card itself, with the host as the card."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vgg_deploy.artifact import Artifact, Precision
from vgg_deploy.backends import BACKENDS, get_backend, torch_gpu
from vgg_deploy.backends.base import Array, Described, OnStream, Recasting
from vgg_deploy.backends.reference import reference
from vgg_deploy.backends.torch_gpu import TORCH_GPU, TorchGpu
from vgg_deploy.backends.torch_network import TorchNetwork
from vgg_deploy.bundle import Bundle
from vgg_deploy.cuda import TF32_VARIABLE
from vgg_deploy.errors import BackendNotAvailable, ResourceLimit
from vgg_deploy.export import export
from vgg_deploy.pipeline.cells import Selection, plan

BATCH = np.random.default_rng(0).normal(size=(4, 1, 32, 32)).astype(np.float32)
# Relative to the largest logit: a few roundings of each type.
CLOSE: dict[Precision, float] = {"fp32": 1e-4, "tf32": 1e-4, "fp16": 5e-3, "bf16": 5e-2}
# A GPU really has TF32, whose mantissa is as short as fp16's.
CLOSE_ON_GPU = CLOSE | {"tf32": 5e-3}


@dataclass
class HostCard:
    """A card without a GPU; graphs are replayed by doing it again."""

    device: str = "cpu"
    stream: int = 77
    waits: int = 0
    captures: int = 0
    releases: int = 0
    watched: list[Callable[[], object]] = field(default_factory=list)  # weak references
    alive: list[object] = field(default_factory=list)  # of those, when memory was given back
    tf32_seen: list[bool] = field(default_factory=list)

    def active(self) -> AbstractContextManager[object]:
        self.tf32_seen.append(torch.backends.cuda.matmul.allow_tf32)
        return nullcontext()

    def wait(self) -> None:
        self.waits += 1

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        self.captures += 1
        return enqueue

    def release(self) -> None:
        self.releases += 1
        self.alive = [watched() for watched in self.watched if watched() is not None]


@contextmanager
def opened(
    row: TorchGpu, bundle: Bundle, artifact: Artifact | None = None
) -> Iterator[tuple[object, HostCard]]:
    card = HostCard()
    there = replace(row, card=lambda: card)
    with there.open(artifact or bundle.checkpoint, bundle.root) as session:
        yield session, card


EAGER = [row for row in TORCH_GPU if row.way == "eager"]


def test_the_rows_are_in_the_table_and_name_their_precision() -> None:
    for row in TORCH_GPU:
        assert BACKENDS[row.name] is row
        assert isinstance(row, Recasting)
        assert row.device == "cuda"
        suffix = "" if row.precision == "fp32" else f"-{row.precision}"
        assert row.name.endswith("-cuda" + suffix)
        if row.variant_of:
            base = get_backend(row.variant_of)
            assert isinstance(base, TorchGpu)
            assert (base.way, base.precision) == (row.way, "fp32")


@pytest.mark.parametrize("row", EAGER, ids=lambda row: row.name)
def test_computes_in_its_precision(row: TorchGpu, tiny_bundle: Bundle) -> None:
    exact = reference(tiny_bundle.path(tiny_bundle.checkpoint), BATCH)
    with opened(row, tiny_bundle) as (session, _):
        assert callable(session)
        logits: Array = session(BATCH)
    assert logits.dtype == np.float32
    error = np.abs(logits - exact).max() / np.abs(exact).max()
    assert error < CLOSE[row.precision]
    if row.precision in ("fp16", "bf16"):
        assert error > 1e-5, "that was fp32"


@pytest.mark.parametrize("way", ["eager", "script", "aoti"])
def test_bound_runs_have_a_buffer_of_their_own(way: str, tiny_bundle: Bundle) -> None:
    row = next(r for r in TORCH_GPU if r.way == way)
    bundle, artifact = tiny_bundle, tiny_bundle.checkpoint
    if way == "script":
        bundle, artifact, _ = export(tiny_bundle, "torchscript")
    exact = reference(bundle.path(bundle.checkpoint), BATCH)
    with opened(row, bundle, artifact) as (session, card):
        run = session.bind(BATCH[:2])  # type: ignore[attr-defined]
        session(BATCH[2:])  # type: ignore[operator]  # as large: compiled once
        run()
        session.sync()  # type: ignore[attr-defined]
        np.testing.assert_allclose(session.output(), exact[:2], atol=1e-4)  # type: ignore[attr-defined]
        assert isinstance(session, OnStream)
        assert isinstance(session, Described)
        assert session.stream == 77
        assert session.modes == {"cuda_graph": "on" if way == "aoti" else "off", "tf32": "off"}
        assert card.captures == int(way == "aoti"), "only what is bound is captured"
    with pytest.raises(RuntimeError, match="closed"):
        session.sync()  # type: ignore[attr-defined]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_graph_that_is_refused_is_not_made(
    wanted: bool, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(r for r in TORCH_GPU if r.way == "aoti")
    monkeypatch.setattr(torch_gpu, "_packaged", lambda network, _: network)
    with opened(replace(row, cuda_graph=wanted), tiny_bundle) as (session, card):
        session.bind(BATCH)  # type: ignore[attr-defined]
        assert session.modes["cuda_graph"] == ("on" if wanted else "off")  # type: ignore[attr-defined]
        assert card.captures == int(wanted)

    asked: dict[str, object] = {}

    def kept(network: object, *, options: dict[str, object], **_: object) -> object:
        asked.update(options)
        return network

    monkeypatch.setattr(torch, "compile", kept)
    row = next(r for r in TORCH_GPU if r.way == "compile")
    with opened(replace(row, cuda_graph=wanted), tiny_bundle) as (session, card):
        session.bind(BATCH)  # type: ignore[attr-defined]
        assert session.modes["cuda_graph"] == ("on" if wanted else "off")  # type: ignore[attr-defined]
    assert asked["triton.cudagraphs"] is wanted
    assert asked["max_autotune"] is True


def test_each_batch_is_compiled_once(tiny_bundle: Bundle) -> None:
    made: list[int] = []

    def specialize(
        network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        made.append(len(images))
        return network

    network = TorchNetwork(network=torch.nn.Identity(), card=HostCard(), specialize=specialize)
    for size in (1, 4, 1, 4):
        placed = network.place(BATCH[:size], keep=size == 4)
        placed.run()
        assert np.array_equal(placed.read(), BATCH[:size])
    assert made == [1, 4]
    network.close()
    network.close()


def test_tf32_is_on_only_while_it_runs(tiny_bundle: Bundle) -> None:
    row = next(r for r in TORCH_GPU if r.name == "torch-cuda-tf32")
    seen: list[bool] = []

    def look(images: torch.Tensor) -> torch.Tensor:
        seen.append(torch.backends.cuda.matmul.allow_tf32 and torch.backends.cudnn.allow_tf32)
        return images

    with opened(row, tiny_bundle) as (session, _):
        assert session.modes["tf32"] == "on"  # type: ignore[attr-defined]
        assert not torch.backends.cuda.matmul.allow_tf32
        network = TorchNetwork(network=look, card=HostCard(), tf32=True)
        network.place(BATCH, keep=True).run()
    assert seen
    assert all(seen)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("row", TORCH_GPU, ids=lambda row: row.name)
def test_without_a_gpu_it_says_so(row: TorchGpu, tiny_bundle: Bundle) -> None:
    missing = row.probe()
    assert missing is not None
    assert "GPU" in missing.reason or "has no CUDA" in missing.reason
    artifact = replace(tiny_bundle.checkpoint, format=min(row.formats))
    with (
        pytest.raises(BackendNotAvailable, match=row.name),
        row.open(artifact, tiny_bundle.root),
    ):
        pass


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_plan_repeats_no_reason_for_variants(tiny_bundle: Bundle) -> None:
    names = [cell.subject.backend for cell in plan(tiny_bundle, Selection())]
    assert "torch-cuda" in names
    assert not [name for name in names if getattr(BACKENDS[name], "variant_of", None)]
    with pytest.raises(BackendNotAvailable, match="torch-cuda-fp16 cannot run"):
        plan(tiny_bundle, Selection(backends=("torch-cuda-fp16",)))


def test_a_plan_has_the_rows_precision(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TorchGpu, "probe", lambda self: None)
    found = {c.subject.backend: c.subject.precision for c in plan(tiny_bundle, Selection())}
    assert found["torch-cuda"] == "fp32"
    assert found["torch-compile-cuda-bf16"] == "bf16"
    assert found["torch"] == "fp32"


def test_a_call_is_one_run_once_its_shape_was_seen() -> None:
    runs: list[int] = []

    def network(images: torch.Tensor) -> torch.Tensor:
        runs.append(len(images))
        return images

    placed = TorchNetwork(network=network, card=HostCard())
    for keep, size, extra in (
        (True, 4, True),
        (False, 4, False),
        (False, 1, True),
        (False, 1, False),
    ):
        runs.clear()
        placed.place(BATCH[:size], keep=keep).run()
        assert set(runs) == {size}
        assert (len(runs) > 1) == extra, (keep, size)


def test_a_compiler_that_fails_is_not_the_files_fault(tiny_bundle: Bundle) -> None:
    from torch._inductor.exc import CppCompileError

    def opened_with(said: str) -> AbstractContextManager[tuple[object, HostCard]]:
        def specialize(network: object, images: object) -> object:
            raise CppCompileError(["gcc"], said)

        row = next(r for r in TORCH_GPU if r.name == "torch-compile-cuda")
        monkey.setattr(TorchGpu, "_specialize", lambda self: specialize)
        return opened(row, tiny_bundle)

    with pytest.MonkeyPatch.context() as monkey:
        with opened_with("error: cuda.h: No such file") as (session, _):
            with pytest.raises(BackendNotAvailable, match="torch-compile-cuda could not") as caught:
                session(BATCH)  # type: ignore[operator]
            assert "gcc or clang" in caught.value.remedy
        with opened_with("Triton Error [CUDA]: out of memory") as (session, _):
            with pytest.raises(ResourceLimit) as full:
                session(BATCH)  # type: ignore[operator]
            assert "on this GPU" in full.value.remedy


@pytest.mark.parametrize(("value", "refused"), [("0", True), ("1", False), ("", False)])
def test_tf32_that_the_environment_switches_off_is_told(
    value: str, refused: bool, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuBLAS and cuDNN heed it before any switch of torch's: the row would be fp32's."""
    monkeypatch.setattr(torch_gpu, "no_gpu", lambda: None)
    monkeypatch.setattr(torch_gpu, "has_tf32", lambda: True)
    monkeypatch.setenv(TF32_VARIABLE, value)
    for row in TORCH_GPU:
        missing = row.refuses(tiny_bundle.checkpoint)
        assert (missing is not None) == (refused and row.precision == "tf32")


@pytest.mark.parametrize(("capability", "refused"), [((7, 5), True), ((8, 0), False)])
def test_tf32_that_the_gpu_has_not_is_told(
    capability: tuple[int, int],
    refused: bool,
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch_gpu, "no_gpu", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.delenv(TF32_VARIABLE, raising=False)
    row = next(r for r in TORCH_GPU if r.name == "torch-cuda-tf32")
    missing = row.refuses(tiny_bundle.checkpoint)
    assert (missing.remedy if missing else "") == ("use torch-cuda" if refused else "")


def test_more_batches_than_dynamo_allows_by_itself_are_compiled() -> None:
    """Its 8 counts over all sessions of a process, and one more is an error with ``fullgraph``."""

    def specialize(
        network: Callable[[torch.Tensor], torch.Tensor], _: torch.Tensor
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        return torch.compile(network, backend="eager", fullgraph=True, dynamic=False)

    torch._dynamo.reset()
    network = TorchNetwork(network=torch.nn.ReLU(), card=HostCard(), specialize=specialize)
    for size in range(1, 11):
        placed = network.place(np.ones((size, 1, 4, 4), np.float32), keep=True)
        placed.run()
        assert len(placed.read()) == size


def test_a_graph_that_inductor_skipped_is_not_told() -> None:
    from torch._dynamo.utils import counters

    def skipping(images: torch.Tensor) -> torch.Tensor:
        counters["inductor"]["cudagraph_skips"] += 1
        return images

    networks: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (torch.nn.Identity(), skipping)
    for network, told in zip(networks, ("on", "off"), strict=True):
        made = TorchNetwork(network=network, card=HostCard(), graph="inside")
        made.place(BATCH, keep=True)
        assert made.modes["cuda_graph"] == told


@pytest.mark.parametrize(("way", "last"), [("script", False), ("eager", True)])
def test_only_what_lies_channels_last_gets_such_input(
    way: str, last: bool, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen script's weights do not move: cuDNN would lay them out again in every run."""
    seen: list[bool] = []

    def network(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.stride()[1] == 1)
        return images.flatten(1)

    monkeypatch.setattr(TorchGpu, "_network", lambda self, path, card: network)
    row = next(r for r in TORCH_GPU if r.way == way)
    artifact = replace(tiny_bundle.checkpoint, format=min(row.formats), input=replace(
        tiny_bundle.checkpoint.input, shape=("batch", 3, 4, 4)))  # fmt: skip
    with opened(row, tiny_bundle, artifact) as (session, _):
        session(np.ones((2, 3, 4, 4), np.float32))  # type: ignore[operator]
    assert set(seen) == {last}


def test_memory_is_given_back_when_nothing_uses_it_any_more() -> None:
    card, module = HostCard(), torch.nn.Identity()
    card.watched.append(weakref.ref(module))
    network = TorchNetwork(network=module, card=card)
    del module
    network.close()
    network.close()
    assert (card.releases, card.alive) == (1, [])


@pytest.mark.gpu
@pytest.mark.parametrize("row", TORCH_GPU, ids=lambda row: row.name)
def test_on_a_gpu(row: TorchGpu, tiny_bundle: Bundle, tmp_path: Path) -> None:
    bundle, artifact = tiny_bundle, tiny_bundle.checkpoint
    if row.way == "script":
        bundle, artifact, _ = export(tiny_bundle, "torchscript")
    exact = reference(bundle.path(bundle.checkpoint), BATCH)
    with row.open(artifact, bundle.root) as session:
        for size in (1, 4):
            run = session.bind(BATCH[:size])
            call = session(BATCH[:size])
            run()
            session.sync()
            scale = np.abs(exact).max()
            assert np.abs(call - exact[:size]).max() < 2 * CLOSE_ON_GPU[row.precision] * scale
            last: Array = session.output()  # type: ignore[attr-defined]
            assert np.abs(last - exact[:size]).max() < 2 * CLOSE_ON_GPU[row.precision] * scale
