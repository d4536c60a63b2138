"""Stages: what is reused, what is not, and a network that no verdict can be given about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import make_bundle, make_card
from tests.heard import Heard
from vgg_deploy.backends import get_backend
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import capture
from vgg_deploy.errors import NotEquivalent, RefusedInput
from vgg_deploy.manifest import Draft
from vgg_deploy.model.checkpoint import load_state, save_checkpoint
from vgg_deploy.pipeline import cells
from vgg_deploy.pipeline.bench import BenchOptions, bench_bundle
from vgg_deploy.pipeline.cells import Cell, Selection, without_cuda_graphs
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.images import images_for
from vgg_deploy.pipeline.verify import VerifyOptions, verdict_error, verify_bundle
from vgg_deploy.results import Comparison

ORT = Selection(backends=("ort-cpu",))
VERIFY = VerifyOptions(selection=ORT, images=8, accuracy=False)
BENCH = BenchOptions(selection=ORT, batches=(1,), seconds=0.05, ceilings=False, layers=False)


Stage = Callable[[Bundle, Heard], object]
STAGES: dict[str, Stage] = {
    "verify": lambda bundle, told: verify_bundle(bundle, VERIFY, told, reuse=True),
    "bench": lambda bundle, told: bench_bundle(bundle, BENCH, told, reuse=True),
}


def reuses(stage: str, bundle: Bundle) -> bool:
    told = Heard()
    STAGES[stage](bundle, told)
    return any("reused" in text for text in told.said)


@pytest.mark.parametrize("stage", STAGES)
def test_the_same_again_is_reused(onnx_bundle: Bundle, stage: str) -> None:
    assert not reuses(stage, onnx_bundle)
    assert reuses(stage, onnx_bundle)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("change", ["cpu", "cores", "versions"])
def test_another_machine_measures_for_itself(
    onnx_bundle: Bundle, stage: str, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reuses(stage, onnx_bundle)
    elsewhere = {
        "cpu": replace(capture(), cpu="another"),
        "cores": replace(capture(), cores=99),
        "versions": replace(capture(), versions={"onnxruntime": "0.1"}),
    }[change]
    monkeypatch.setattr(cells, "capture", lambda: elsewhere)
    assert not reuses(stage, onnx_bundle)


@pytest.mark.parametrize("stage", STAGES)
def test_another_number_of_threads_is_measured(
    onnx_bundle: Bundle, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    reuses(stage, onnx_bundle)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert not reuses(stage, onnx_bundle)


def test_a_broken_stored_report_is_measured_again(onnx_bundle: Bundle) -> None:
    reuses("verify", onnx_bundle)
    (onnx_bundle.root / "results" / "verify.json").write_text("{")
    assert not reuses("verify", onnx_bundle)


def test_a_network_that_ignores_its_input_gets_no_verdict(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "collapsed", make_card())
    first = bundle.checkpoint
    state = load_state(bundle.path(first))
    state["head.fc8.weight"] *= 1e-6
    draft = Draft(
        format="checkpoint",
        precision="fp32",
        input=first.input,
        output=first.output,
        parent=None,
        made_by={},
    )
    bundle, _ = bundle.add(draft, lambda path: save_checkpoint(path, bundle.card, state))
    bundle = export_bundle(bundle, ("onnx",))[0]
    with pytest.raises(RefusedInput, match="hardly depend on the image"):
        verify_bundle(bundle, VERIFY)


def test_failed_rows_gate_like_different_ones(onnx_bundle: Bundle) -> None:
    report = verify_bundle(onnx_bundle, VERIFY)
    assert verdict_error(report) is None
    broken: Comparison = replace(report.rows[0], verdict="failed", reason="it broke")
    error = verdict_error(replace(report, rows=(*report.rows, broken)))
    assert isinstance(error, NotEquivalent)
    assert "it broke" in error.remedy
    skipped = replace(report.rows[0], verdict="skipped", reason="absent")
    nothing = verdict_error(replace(report, rows=(skipped,)))
    assert nothing is not None
    assert nothing.exit_code == 10


def test_why_accuracy_is_not_compared_is_said(onnx_bundle: Bundle) -> None:
    told = Heard()
    verify_bundle(onnx_bundle, replace(VERIFY, accuracy=True), told)
    assert any("other classes" in line for line in told.said)


@pytest.mark.parametrize("trained_on", ["sample", "fashion-mnist"])
def test_models_of_the_sample_and_of_all_are_tested_alike(trained_on: str) -> None:
    labels = images_for(make_card(), "sample").dataset.labels
    card = replace(make_card(), labels=labels, dataset=trained_on)
    assert images_for(card).no_accuracy == ""


@pytest.mark.parametrize(
    "name", ["trt", "trt-rtx", "ort-cuda", "ort-trt", "torch-compile-cuda", "aoti-cuda-fp16"]
)
def test_cuda_graphs_are_used_unless_refused(name: str) -> None:
    cell = Cell(get_backend(name), None, None)
    captures = name != "ort-trt"  # ONNX Runtime captures none through TensorRT
    assert getattr(cell.backend, "cuda_graph") is captures  # noqa: B009
    plain = without_cuda_graphs(cell).backend
    assert getattr(plain, "cuda_graph") is False  # noqa: B009
    assert plain.name == name


def test_backends_without_cuda_graphs_stay_as_they_are() -> None:
    cell = Cell(get_backend("ort-cpu"), None, None)
    assert without_cuda_graphs(cell) is cell
