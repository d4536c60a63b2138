"""What inductor is asked for on a GPU, looked at without one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from vgg_deploy.backends import pytorch, torch_gpu
from vgg_deploy.backends.torch_gpu import TORCH_GPU, TorchGpu
from vgg_deploy.bundle import Bundle


def test_compilers_are_asked_for_speed_and_for_no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def compile_(network: object, **words: Any) -> object:
        asked.update(words)
        return network

    real = torch.compile
    monkeypatch.setattr(torch, "compile", compile_)
    torch_gpu._compiled(torch.nn.Identity(), torch.ones(1))
    real(torch.nn.Identity(), **asked)  # refuses an option that this torch does not have
    assert asked["options"]["autotune_num_choices_displayed"] == 0
    assert asked["options"]["max_autotune"]
    assert asked["options"]["triton.cudagraphs"]


@pytest.mark.parametrize("on_gpu", [True, False])
def test_a_package_for_a_gpu_can_be_captured(on_gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual runner asks events of its own meanwhile, which breaks a capture."""
    import torch._inductor as inductor

    asked: dict[str, Any] = {}

    def load(package: object, **words: Any) -> object:
        asked.update(words)
        return package

    monkeypatch.setattr(torch.export, "export", lambda network, example: network)
    monkeypatch.setattr(
        inductor, "aoti_compile_and_package", lambda _, **words: asked.update(words)
    )
    monkeypatch.setattr(inductor, "aoti_load_package", load)
    example: Any = SimpleNamespace(is_cuda=on_gpu)
    torch_gpu._packaged(torch.nn.Identity(), example)
    assert asked["run_single_threaded"] is on_gpu
    assert asked["inductor_configs"]["autotune_num_choices_displayed"] == 0


def test_ahead_of_time_compilation_needs_cudas_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils import cpp_extension

    monkeypatch.setattr(torch_gpu, "no_gpu", lambda: None)
    monkeypatch.setattr(torch_gpu, "missing_compiler", lambda: None)
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", None)
    missing = {row.way: row.probe() for row in TORCH_GPU}
    found = missing.pop("aoti")
    assert found is not None
    assert "no CUDA toolkit" in found.reason
    assert "CUDA_HOME" in found.remedy
    assert set(missing.values()) == {None}
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", "/usr/local/cuda")
    assert TorchGpu(way="aoti").probe() is None


def test_a_call_of_compiled_code_is_one_run(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the first one of a shape, which compiles: calls are timed."""
    runs: list[tuple[int, ...]] = []

    def compile_(network: Any, **_words: Any) -> object:
        def counted(images: torch.Tensor) -> torch.Tensor:
            runs.append(tuple(images.shape))
            return cast("torch.Tensor", network(images))

        return counted

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(pytorch, "missing_compiler", lambda: None)
    spec = tiny_bundle.card.spec
    one = np.zeros((1, spec.channels, spec.size, spec.size), np.float32)
    with pytorch.TorchCompile().open(tiny_bundle.checkpoint, tiny_bundle.root) as session:
        for batch in (one, one, np.repeat(one, 2, axis=0), one):
            session(batch)
        session.bind(one)
    assert [shape[0] for shape in runs] == [1, 1, 1, 2, 2, 1]
