"""The check of a machine: which backend comes when, and how long each has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.pipeline.test_machine import OPTIONS, doctor
from vgg_deploy.pipeline.machine_steps import Options, Step, in_order, steps


def test_what_tells_most_comes_first() -> None:
    """A lent machine may be gone at any step."""
    names = ("torch_cuda", "torch_compile_cuda", "torch_cuda_fp16", "torch_cuda_bf16", "ort_trt",
             "aoti_cuda", "trt", "ort_cuda")  # fmt: skip
    found = (doctor("main", True, **dict.fromkeys(names, True)),)
    options = replace(OPTIONS, trt_python="main", networks=("vgg16", "tiny"),
                      precisions=("fp32", "fp16", "int8"))  # fmt: skip
    plan = list(steps(options, found))
    cells = [(s.network, s.backend, s.precision) for s in plan if s.kind == "bench"]
    early = [
        ("torch-cuda", ""), ("torch-cuda-fp16", ""), ("ort-cuda", ""),
        ("trt", "fp32"), ("trt", "fp16"),
    ]  # fmt: skip
    assert cells[:10] == [(n, *cell) for n in ("tiny", "vgg16") for cell in early]
    later = [("torch-cuda-bf16", ""), ("ort-trt", ""), ("trt", "int8"), ("trt", "tf32")]
    slow = [("torch-compile-cuda", ""), ("aoti-cuda", "")]
    assert {cell[1:] for cell in cells[10:18]} == set(later)
    assert {cell[1:] for cell in cells[18:]} == set(slow)
    assert len(cells) == len(set(cells)) == 22
    kinds = [(s.kind, s.precision) for s in plan if s.network == "tiny" and s.backend == "trt"]
    assert kinds[:4] == [
        ("build", "fp32"),
        ("verify", "fp32"),
        ("bench", "fp32"),
        ("build", "fp16"),
    ]
    assert in_order((256, 8, 64, 1, 8)) == (1, 64, 8, 256) == Options(device="cpu").batches


@pytest.mark.parametrize(
    ("kind", "backend", "slow"),
    [
        ("build", "trt", True),
        ("bench", "trt", False),
        ("bench", "ort-cuda", False),
        ("verify", "ort-trt", True),
        ("bench", "torch-compile-cuda-fp16", True),
        ("bench", "aoti-cuda", True),
    ],
)
def test_what_builds_or_compiles_has_longer(kind: Any, backend: str, slow: bool) -> None:
    step = Step(kind=kind, network="n", python="p", words=(), backend=backend)
    options = replace(OPTIONS, step_seconds=7.0, build_seconds=70.0)
    assert step.limit(options) == (70.0 if slow else 7.0)


def test_so_has_an_export_that_compiles() -> None:
    planned = list(steps(OPTIONS, (doctor("main", torch=True, aoti=True, torchscript=True),)))
    exports = {s.words[-2]: s.backend for s in planned if s.kind == "export"}
    assert exports == {"aoti": "aoti", "torchscript": ""}
