"""What torch's backends promise beyond the contract."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch._inductor

from vgg_deploy import environment
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.networks import load_package
from vgg_deploy.backends.pytorch import Aoti, missing_compiler, place_with
from vgg_deploy.backends.reference import reference
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import BackendNotAvailable, RefusedInput, ResourceLimit
from vgg_deploy.export import ExportOptions
from vgg_deploy.export.to_program import aoti_made_by

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


CLANG = """#!/bin/sh
# the compiler of this machine by another name; g++ without the options that only clang++ has
PATH={path}
echo "$@" >> {called}
for option; do
    shift
    case {real}:$option in
        *clang*) set -- "$@" "$option" ;;
        *:-gline-tables-only | *:-Werror=ignored-optimization-argument) ;;
        *) set -- "$@" "$option" ;;
    esac
done
exec {real} "$@"
"""


@pytest.mark.parametrize("command", [None, "{}", "ccache {}"])
def test_the_compiler_that_was_found_is_the_one_that_compiles(
    command: str | None, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only clang++ is there, and behind a launcher: inductor itself would look for g++."""
    called, only = tmp_path / "called", tmp_path / "clang++"
    real = shutil.which("g++") or shutil.which("clang++")
    only.write_text(CLANG.format(path=os.environ["PATH"], called=called, real=real))
    only.chmod(0o755)
    if openssl := shutil.which("openssl"):  # inductor calls it where it is
        (tmp_path / "openssl").symlink_to(openssl)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    if command:
        monkeypatch.setenv("CXX", command.format(only))
    torch._dynamo.reset()
    expected = reference(tiny_bundle.path(tiny_bundle.checkpoint), BATCH[:2])
    assert missing_compiler() is None
    with (
        torch._inductor.utils.fresh_cache(),
        get_backend("torch-compile").open(tiny_bundle.checkpoint, tiny_bundle.root) as session,
    ):
        np.testing.assert_allclose(session(BATCH[:2]), expected, rtol=1e-4, atol=1e-4)
    assert ".cpp" in called.read_text()


def test_without_pythons_headers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    missing = missing_compiler()
    assert missing is not None
    assert "python3-dev" in missing.remedy


def test_a_compiler_that_fails_is_not_the_files_fault(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    monkeypatch.setenv("CXX", "false")
    with (
        torch._inductor.utils.fresh_cache(),
        get_backend("torch-compile").open(tiny_bundle.checkpoint, tiny_bundle.root) as session,
        pytest.raises(BackendNotAvailable, match="could not compile") as caught,
    ):
        session(BATCH[:1])
    assert "C++ compiler" in caught.value.remedy


@pytest.mark.parametrize(
    ("made", "here", "runs"),
    [
        ("AVX2", "AVX512", True),
        ("DEFAULT", "AVX2", True),
        ("NO AVX", "AVX2", True),
        ("AVX512", "AVX512", True),
        ("DEFAULT", "SVE256", True),
        ("AVX512", "AVX2", False),
        ("AVX2", "NO AVX", False),
        ("SVE256", "SVE256", True),
        ("SVE256", "AVX512", False),
        ("AVX2", "SVE256", False),
        (None, "AVX2", True),
    ],
)
def test_code_for_another_processor_is_not_run(
    made: str | None,
    here: str,
    runs: bool,
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the processor is a stand-in; the file is none, so that an open that goes on says so."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: here)
    made_by = {} if made is None else {"cpu_capability": made}
    package = replace(tiny_bundle.checkpoint, format="aoti", made_by=made_by)
    expected = RefusedInput if runs else BackendNotAvailable
    with pytest.raises(expected) as caught, get_backend("aoti").open(package, tiny_bundle.root):
        pass
    if not runs:
        assert f"for processors with {made}, this one has {here}" in str(caught.value)
        assert "export --format aoti" in caught.value.remedy


INTEL = {"flags": "fpu sme avx avx2 avx512f avx512_fp16 amx_bf16"}
NO_FP16 = {"flags": "amx_bf16 avx512f avx2 avx fpu"}


@pytest.mark.parametrize(
    ("here", "lacking"),
    [
        (INTEL, ""),
        ({"flags": INTEL["flags"].replace("sme", "avx_vnni")}, ""),
        (NO_FP16, "avx512_fp16, this one has none of that"),
        ({"Features": "fp asimd sme"}, "amx_bf16, avx, avx2, avx512_fp16, avx512f, this"),
        ({}, "AVX512, this one has AVX2"),  # without the kernel's table torch's word counts
    ],
)
def test_a_package_runs_where_all_its_instructions_are(
    here: dict[str, str], lacking: str, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler uses all that the processor has, whatever torch calls its own kernels."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(environment, "_cpuinfo", lambda: INTEL)
    made_by = aoti_made_by(ExportOptions())
    assert made_by["cpu_flags"] == "amx_bf16 avx avx2 avx512_fp16 avx512f"
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    monkeypatch.setattr(environment, "_cpuinfo", lambda: here)
    package = replace(tiny_bundle.checkpoint, format="aoti", made_by=made_by)
    missing = Aoti().refuses(package)
    assert bool(missing) == bool(lacking)
    assert missing is None or f"for processors with {lacking}" in missing.reason


def test_a_package_that_was_made_here_runs_here(tiny_bundle: Bundle) -> None:
    made_by = aoti_made_by(ExportOptions())
    assert made_by["cpu_capability"]
    assert Aoti().refuses(replace(tiny_bundle.checkpoint, format="aoti", made_by=made_by)) is None


@pytest.mark.parametrize(("free", "expected"), [(10, ResourceLimit), (10**9, RuntimeError)])
def test_a_package_that_there_is_no_room_to_unpack_is_told(
    free: int, expected: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._inductor

    def refused(_path: str) -> None:
        raise RuntimeError("Failed to extract zip file")

    package = tmp_path / "model.aoti.pt2"
    package.write_bytes(bytes(1000))
    monkeypatch.setattr(torch._inductor, "aoti_load_package", refused)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(expected):
        load_package(package)
