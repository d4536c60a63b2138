"""What torch's backends promise beyond the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from vgg_deploy.backends import get_backend
from vgg_deploy.backends.pytorch import missing_compiler, place_with
from vgg_deploy.backends.reference import reference
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import BackendNotAvailable, RefusedInput

BATCH = np.random.default_rng(0).normal(size=(9, 1, 32, 32)).astype(np.float32)


@pytest.fixture
def matmul_precision() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


def test_the_reference_is_float64_repeats_and_does_not_depend_on_the_chunk(
    tiny_bundle: Bundle,
) -> None:
    path = tiny_bundle.path(tiny_bundle.checkpoint)
    logits = reference(path, BATCH)
    assert logits.dtype == np.float64
    assert logits.shape == (9, 10)
    assert np.array_equal(reference(path, BATCH), logits)
    np.testing.assert_allclose(reference(path, BATCH, chunk=2), logits, rtol=1e-12)


def test_the_reference_refuses_nothing_and_nonsense(tiny_bundle: Bundle, tmp_path: Path) -> None:
    path = tiny_bundle.path(tiny_bundle.checkpoint)
    with pytest.raises(ValueError, match="nothing to compute"):
        reference(path, BATCH[:0])
    with pytest.raises(ValueError, match="chunk 0"):
        reference(path, BATCH, chunk=0)
    (tmp_path / "x.safetensors").write_bytes(b"no weights")
    with pytest.raises(RefusedInput):
        reference(tmp_path / "x.safetensors", BATCH)


@pytest.mark.usefixtures("matmul_precision")
def test_fp32_stays_fp32_after_a_training_that_was_content_with_less(tiny_bundle: Bundle) -> None:
    def logits() -> object:
        with get_backend("torch").open(tiny_bundle.checkpoint, tiny_bundle.root) as session:
            return session(BATCH)

    expected = logits()
    torch.set_float32_matmul_precision("medium")  # bf16 products where the CPU has them
    assert np.array_equal(logits(), expected)  # type: ignore[arg-type]
    assert torch.get_float32_matmul_precision() == "highest"


def test_inputs_are_laid_out_once_and_channels_last() -> None:
    seen: list[torch.Tensor] = []

    def network(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return images.sum((2, 3))

    placed = place_with(network)(np.zeros((2, 3, 8, 8), np.float32))
    placed.run()
    placed.run()
    assert seen[0] is seen[1]
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_compile_makes_code_for_one_and_for_many(tiny_bundle: Bundle) -> None:
    torch._dynamo.reset()
    counted = torch._dynamo.utils.counters["stats"]
    before = counted["unique_graphs"]
    with get_backend("torch-compile").open(tiny_bundle.checkpoint, tiny_bundle.root) as session:
        for size in (1, 2, 3, 5, 8, 9, 1):
            run = session.bind(BATCH[:size])
            compiled = counted["unique_graphs"]
            run()  # timed runs do not compile
            assert counted["unique_graphs"] == compiled
    assert counted["unique_graphs"] - before == 2


def test_compile_outlives_dynamos_limit_of_recompilations(tiny_bundle: Bundle) -> None:
    for _ in range(10):  # each session is a network of its own to dynamo, whose limit is 8
        with get_backend("torch-compile").open(tiny_bundle.checkpoint, tiny_bundle.root) as session:
            session(BATCH[:1])


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    missing = missing_compiler()
    assert missing is not None
    assert "no-such-compiler" in missing.reason
    assert get_backend("torch-compile").probe() == missing


def test_without_pythons_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    missing = missing_compiler()
    assert missing is not None
    assert "python3-dev" in missing.remedy


def test_a_compiler_that_fails_is_not_the_files_fault(tiny_bundle: Bundle) -> None:
    torch._dynamo.reset()
    with (
        # not monkeypatch: its undo deletes the setting for the rest of the process
        torch._inductor.config.patch({"cpp.cxx": (None, "false")}),
        torch._inductor.utils.fresh_cache(),
        get_backend("torch-compile").open(tiny_bundle.checkpoint, tiny_bundle.root) as session,
        pytest.raises(BackendNotAvailable, match="could not compile") as caught,
    ):
        session(BATCH[:1])
    assert "C++ compiler" in caught.value.remedy
