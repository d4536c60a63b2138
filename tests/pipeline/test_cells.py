"""No name on the command line is without a row: it has one, or the command is refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from vgg_deploy.artifact import Format
from vgg_deploy.backends.base import Missing
from vgg_deploy.backends.tensorrt import TensorRt
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import BackendNotAvailable, RefusedInput, UsageError, VggDeployError
from vgg_deploy.pipeline import cells
from vgg_deploy.pipeline.cells import Selection, plan, results_key, selection_of


@pytest.mark.parametrize(
    ("backends", "formats", "cause"),
    [
        (("ort-cpu", "trt"), ("onnx",), "no onnx file is for trt"),
        (("ort-cpu", "torch"), ("onnx", "torchscript"), "no onnx or torchscript file is for torch"),
        (("ort-cpu",), ("onnx", "torchscript"), "no torchscript file is for ort-cpu"),
        (("ort-cpu", "openvino"), ("checkpoint",), "no checkpoint file is for ort-cpu"),
    ],
)
def test_a_name_without_a_pair_is_refused(
    backends: tuple[str, ...], formats: tuple[Format, ...], cause: str, two_formats: Bundle
) -> None:
    with pytest.raises(UsageError) as caught:
        plan(two_formats, Selection(backends=backends, formats=formats))
    assert caught.value.cause == cause


@pytest.mark.parametrize(
    ("backends", "formats", "pairs"),
    [
        (("ort-cpu", "torch"), ("onnx", "checkpoint"), {"ort-cpu onnx", "torch checkpoint"}),
        (("torch",), ("checkpoint",), {"torch checkpoint"}),
        (("ort-cpu",), (), {"ort-cpu onnx"}),
    ],
)
def test_every_name_with_one_has_a_row(
    backends: tuple[str, ...], formats: tuple[Format, ...], pairs: set[str], two_formats: Bundle
) -> None:
    cells = plan(two_formats, Selection(backends=backends, formats=formats))
    assert {f"{c.subject.backend} {c.subject.format}" for c in cells} == pairs


def test_where_no_backend_is_named_none_is_refused(two_formats: Bundle) -> None:
    cells = plan(two_formats, Selection(formats=("torchscript",)))
    assert "torchscript" in {cell.backend.name for cell in cells}
    assert {cell.subject.format for cell in cells} == {"torchscript"}


def in_both(bundle: Bundle) -> Bundle:
    """The bundle with a second ONNX file, of int8 by its record."""
    plain = bundle.find("onnx")
    assert plain is not None
    other = replace(plain, path=PurePosixPath("model.int8.onnx"), precision="int8")
    artifacts = (*bundle.artifacts, other)
    return replace(bundle, manifest=replace(bundle.manifest, artifacts=artifacts))


def test_a_precision_picks_its_files(two_formats: Bundle) -> None:
    cells = plan(in_both(two_formats), selection_of(["ort-cpu"], None, ["int8"]))
    assert [cell.subject.artifact for cell in cells] == ["model.int8.onnx"]
    every = plan(in_both(two_formats), Selection(precisions=("int8",)))
    assert {cell.subject.precision for cell in every} == {"int8"}
    assert {"ort-cpu", "openvino"} <= {cell.backend.name for cell in every}


@pytest.mark.parametrize(
    ("backends", "precision", "kind", "cause"),
    [
        ((), "int9", UsageError, "unknown precision 'int9'"),
        ((), "fp8", RefusedInput, "holds no fp8 file"),
        ((), "tf32", RefusedInput, "holds no tf32 file"),
        (("torch",), "int8", UsageError, "no int8 file is for torch"),
        (("ort-cpu", "torchscript"), "int8", UsageError, "no int8 file is for torchscript"),
    ],
)
def test_a_precision_without_a_file_is_refused(
    backends: tuple[str, ...],
    precision: str,
    kind: type[VggDeployError],
    cause: str,
    two_formats: Bundle,
) -> None:
    with pytest.raises(kind, match=cause):
        plan(in_both(two_formats), selection_of(backends, None, [precision]))


@pytest.mark.parametrize(
    ("backends", "precisions", "remedy"),
    [
        (["trt"], ["int8"], "--flavour tensorrt --precision int8"),
        (["trt-rtx"], ["int8"], "--flavour tensorrt-rtx --precision int8"),
        (["trt"], ["tf32"], "--flavour tensorrt --precision tf32"),
        (["ort-cpu", "trt"], ["int8"], "--flavour tensorrt --precision int8"),
    ],
)
def test_an_engine_that_is_not_built_is_to_be_built(
    backends: list[str],
    precisions: list[str],
    remedy: str,
    two_formats: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle, selection = in_both(two_formats), selection_of(backends, None, precisions)
    lacking = Missing("no TensorRT here", "install it")
    monkeypatch.setattr(TensorRt, "probe", lambda _: lacking)
    with pytest.raises(BackendNotAvailable, match="no TensorRT here"):
        plan(bundle, selection)
    monkeypatch.setattr(TensorRt, "probe", lambda _: None)
    with pytest.raises(RefusedInput, match=f"no {precisions[0]} engine for it") as caught:
        plan(bundle, selection)
    assert caught.value.remedy == f"make it: vgg-deploy build {bundle.root} {remedy}"


def test_results_with_tf32_switched_off_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    unset = results_key([], Selection(), {})
    keys = []
    for value in ("", "0", "1"):
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", value)
        keys.append(results_key([], Selection(), {}))
    assert keys[0] == unset
    assert len(set(keys)) == 3


def test_results_of_before_that_variable_are_kept_without_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    monkeypatch.setattr(cells, "capture", lambda: "here")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    lines = ['"what"', '"here"', "OMP_NUM_THREADS=2", "CUDA_VISIBLE_DEVICES=",
             "CUDA_DEVICE_ORDER=", "judge=1"]  # fmt: skip
    expected = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert results_key([], "what", {"judge": "1"}) == expected
