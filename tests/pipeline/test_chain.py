"""Which hop, which runtime and which stage a row that differs is blamed on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from tests.faults import in_export, in_graph, in_runtime
from tests.faults.catalogue import edited, exported, record, wrapped
from tests.faults.graph import Graph
from tests.pipeline.verifying import QUICK, rows_of
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends import BACKENDS
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.export.embedded import export_embedded
from vgg_deploy.pipeline.cells import Cell, Selection
from vgg_deploy.pipeline.chain import Logits, Ran, with_hops
from vgg_deploy.pipeline.locate import located
from vgg_deploy.pipeline.watch import Silent
from vgg_deploy.report.chain_tables import hops_table
from vgg_deploy.results import Comparison, Figure, Verdict
from vgg_deploy.verify.inputs import make_inputs

EMBEDDED = Selection(backends=("ort-cpu",), formats=("embedded",))


def test_every_hop_is_told_with_its_own_error(bundle: Bundle) -> None:
    half = rows_of(bundle)["ort-cpu:model.fp16.onnx"]
    first, second = half.hops
    assert (first.parent, first.child) == ("checkpoint.safetensors", "model.fp32.onnx")
    assert (second.parent, second.child) == ("model.fp32.onnx", "model.fp16.onnx")
    assert first.added is not None
    assert second.added is not None
    assert first.added < 1e-5 < second.added
    assert half.verdict == "equivalent"


def test_the_hop_that_added_the_error_is_named(bundle: Bundle) -> None:
    """Planted in the fp16 file: the fp32 file it was made from is in order."""
    edited(in_graph.IN_PLAIN["bias of a convolution lost"], "fp16")(bundle)
    rows = rows_of(bundle)
    assert rows["ort-cpu:model.fp32.onnx"].verdict == "equivalent"
    reason = rows["ort-cpu:model.fp16.onnx"].reason
    assert "the error enters between model.fp32.onnx and model.fp16.onnx" in reason
    alone = rows_of(bundle, replace(QUICK, selection=Selection(backends=("ort-cpu",))))
    said = alone["ort-cpu:model.fp16.onnx"].reason
    assert said.endswith("by that step or by ort-cpu, which alone ran the file")


def test_a_parent_that_was_not_asked_for_is_run_to_name_the_hop(bundle: Bundle) -> None:
    """Planted in the export of fp32, from which the embedded file was made; only that is asked."""
    exported(in_export.IN_SCRIPT["features flattened in another order"], "onnx")(bundle)
    made, _, _ = export_embedded(open_bundle(bundle.root))
    rows = rows_of(made, replace(QUICK, selection=EMBEDDED))
    (row,) = rows.values()
    assert row.verdict == "different"
    assert [hop.backend for hop in row.hops] == ["ort-cpu", "ort-cpu"]
    assert "the error enters between checkpoint.safetensors and model.fp32.onnx" in row.reason


def test_a_parent_of_a_right_file_that_was_not_asked_for_is_not_run(bundle: Bundle) -> None:
    made, _, _ = export_embedded(bundle)
    (row,) = rows_of(made, replace(QUICK, selection=EMBEDDED)).values()
    first, second = row.hops
    assert (first.ok, first.added, first.note) == (None, None, "not run: not asked for")
    assert (second.ok, second.added, second.note) == (True, None, "")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("NaN in one image", "NaN or infinite"),
        ("labels permuted in the file", "the file itself holds other labels"),
    ],
)
def test_a_parent_without_outputs_to_compare_is_blamed(
    bundle: Bundle, fault: str, said: str
) -> None:
    """The embedded file takes the fault over from the fp32 file that it was made from."""
    edited(in_graph.IN_PLAIN[fault])(bundle)
    made, _, _ = export_embedded(open_bundle(bundle.root))
    only = Selection(backends=("ort-cpu",), formats=("onnx", "embedded"))
    row = rows_of(made, replace(QUICK, selection=only))["ort-cpu:model.embedded.onnx"]
    first, second = row.hops
    assert (first.ok, first.added, second.ok, second.added) == (False, None, False, None)
    assert said in first.note
    assert "the error enters between checkpoint.safetensors and model.fp32.onnx" in row.reason


def test_a_parent_that_failed_is_neither_right_nor_wrong(bundle: Bundle) -> None:
    """Nothing is known of what broke, so the error may have entered on either side of it."""
    plain, half = bundle.find("onnx", "fp32"), bundle.find("onnx", "fp16")
    assert plain is not None
    assert half is not None
    backend, exact = BACKENDS["ort-cpu"], np.eye(3)

    def ran(artifact: Artifact, verdict: Verdict, reason: str, outputs: Logits | None) -> Ran:
        subject = Cell(backend=backend, artifact=artifact, missing=None).subject
        row = Comparison(subject=subject, verdict=verdict, reason=reason)
        return Ran(artifact, backend, row, outputs)

    broke, far = ran(plain, "failed", "out of memory", exact), ran(half, "different", "far", exact)
    row = with_hops(far, [broke, far], bundle, exact)
    first, second = row.hops
    assert (first.ok, first.backend, first.note) == (None, "", "out of memory")
    assert second.ok is False
    assert "the error enters between checkpoint.safetensors and model.fp16.onnx" in row.reason
    table = hops_table([row])
    assert table is not None
    assert [r.status for r in table.rows] == ["plain", "bad"]


def with_verdicts(
    bundle: Bundle, *runs: tuple[str, str, Verdict], far: Logits
) -> tuple[Ran, list[Ran]]:
    """Files in backends with verdicts of their accuracy, all with the same outputs."""
    found = []
    for path, name, verdict in runs:
        artifact, backend = bundle.named(path), BACKENDS[name]
        subject = Cell(backend=backend, artifact=artifact, missing=None).subject
        told = Figure(name="rel_l2", value=0.1, limit=None, ok=True)
        row = Comparison(subject=subject, verdict=verdict, reason="lost", figures=(told,))
        found.append(Ran(artifact, backend, row, far))
    return found[-1], found


def test_a_step_that_adds_nothing_is_as_its_parent(bundle: Bundle) -> None:
    """Judged by accuracy: the file lost its accuracy before, so this step is not a wrong one."""
    made, _, _ = export_embedded(bundle, precision="fp16")
    exact, far = np.eye(3), np.eye(3) + 0.1
    runs = [("model.fp16.onnx", "different"), ("model.fp16.embedded.onnx", "different")]
    given: list[tuple[str, str, Verdict]] = [(path, "ort-cpu", v) for path, v in runs]  # type: ignore[misc]
    last, everything = with_verdicts(made, *given, far=far)
    row = with_hops(last, everything, made, exact)
    _, second, third = row.hops
    assert (second.ok, third.ok, third.added, third.note) == (False, None, 0, "as its parent")
    assert "enters between checkpoint.safetensors and model.fp16.onnx" in row.reason
    table = hops_table([row])
    assert table is not None
    assert [r.status for r in table.rows] == ["plain", "bad", "plain"]
    last, everything = with_verdicts(
        made, (given[0][0], "ort-cpu", "equivalent"), given[1], far=far
    )
    row = with_hops(last, everything, made, exact)
    assert [hop.ok for hop in row.hops] == [None, True, False], "its parent is in order"
    moved = replace(last, outputs=far + 1e-3)
    before, _ = with_verdicts(made, given[0], far=far)
    row = with_hops(moved, [before, moved], made, exact)
    assert [hop.ok for hop in row.hops] == [None, False, False], "it adds something"


def test_the_runtime_is_to_blame_where_another_one_runs_the_parent_rightly(bundle: Bundle) -> None:
    made, _, _ = export_embedded(bundle, precision="fp16")
    plain = "model.fp16.onnx"
    last, everything = with_verdicts(
        made,
        (plain, "openvino", "equivalent"),
        (plain, "ort-cpu", "different"),
        ("model.fp16.embedded.onnx", "ort-cpu", "different"),
        far=np.eye(3) + 0.1,
    )
    row = with_hops(last, everything, made, np.eye(3))
    assert row.reason.endswith(f"and {plain}, by ort-cpu: the file passes in openvino")


def test_the_image_of_a_nan_is_named_shown_and_looked_into(bundle: Bundle) -> None:
    edited(in_graph.IN_PLAIN["NaN in one image"])(bundle)
    only = Selection(backends=("ort-cpu",), formats=("onnx",))
    row = rows_of(bundle, replace(QUICK, selection=only, locate=True))["ort-cpu:model.fp32.onnx"]
    assert "first on all 255" in row.reason
    assert row.worst is not None
    assert (row.worst.name, row.worst.rel_l2) == ("all 255", None)
    assert len(row.worst.png) > 50
    assert row.location is not None
    assert row.location.stage == "fc8"
    assert row.location.stages[-1].rel_l2 is None


def test_a_runtime_at_fault_is_told_from_a_file_at_fault(bundle: Bundle) -> None:
    with wrapped(in_runtime.IN_RUNTIME["kernel of batch 2 wrong"])(bundle):
        rows = rows_of(bundle)
    assert rows["openvino:model.fp32.onnx"].verdict == "equivalent"
    reason = rows["ort-cpu:model.fp32.onnx"].reason
    assert "the file itself passes in openvino, so it is ort-cpu that adds the error" in reason


@pytest.mark.parametrize(
    ("fault", "stage"),
    [
        ("exponent bit of one weight flipped", "pool1"),
        ("bias of a convolution lost", "pool2"),
        ("weights of two layers swapped", "pool3"),
        ("fc6 reads its input as NHWC", "fc6"),
        ("square fc7 transposed", "fc7"),
        ("bias of fc8 lost", "fc8"),
    ],
)
@pytest.mark.parametrize("backend", ["ort-cpu", "openvino"])
def test_the_stage_that_diverges_is_located(
    bundle: Bundle, fault: str, stage: str, backend: str
) -> None:
    edited(in_graph.IN_PLAIN[fault])(bundle)
    options = replace(QUICK, selection=Selection(backends=(backend,)), locate=True)
    row = rows_of(bundle, options)[f"{backend}:model.fp32.onnx"]
    assert row.location is not None
    assert row.location.stage == stage, row.location
    assert [s.ok for s in row.location.stages] == [True] * (len(row.location.stages) - 1) + [False]
    assert f"begins to diverge {row.location.note}" in row.reason


@pytest.mark.parametrize(
    ("format", "backend"), [("torchscript", "torchscript"), ("program", "torch")]
)
def test_torch_formats_are_located_from_inside(bundle: Bundle, format: str, backend: str) -> None:
    exported(in_export.IN_SCRIPT["ReLU of fc6 lost in a script"], format)(bundle)  # type: ignore[arg-type]
    only = Selection(backends=(backend,), formats=(format,))  # type: ignore[arg-type]
    (row,) = rows_of(bundle, replace(QUICK, selection=only, locate=True)).values()
    assert row.location is not None
    assert row.location.stage == "fc7", row.location


def test_what_cannot_be_located_is_said(bundle: Bundle) -> None:
    """Stage by stage a file is run in one batch, and this runtime errs in batches of two only."""
    with wrapped(in_runtime.IN_RUNTIME["kernel of batch 2 wrong"])(bundle):
        options = replace(QUICK, selection=Selection(backends=("ort-cpu",)), locate=True)
        row = rows_of(bundle, options)["ort-cpu:model.fp32.onnx"]
    assert row.verdict == "different"
    assert row.location is not None
    assert row.location.stage is None
    assert row.location.note == "every stage is within its limit on these images"
    (hop,) = row.hops
    assert row.worst is not None
    assert row.worst.rel_l2 == hop.rel_l2, "the call of two images is shown, not an earlier one"
    assert hop.added == pytest.approx(1e-3, rel=0.1)


@pytest.mark.parametrize(
    ("format", "said"),
    [
        ("aoti", "compiled code without inner tensors"),
        ("engine", "locate in the ONNX file that it was built from"),
        ("checkpoint", "the backend computes it wrongly"),
    ],
)
def test_a_format_without_inner_tensors_is_told(bundle: Bundle, format: str, said: str) -> None:
    artifact = replace(bundle.checkpoint, format=format)  # type: ignore[arg-type]
    cell = Cell(backend=BACKENDS["torch"], artifact=artifact, missing=None)
    row = Comparison(subject=cell.subject, verdict="different", reason="far")
    ran = Ran(artifact, cell.backend, row, None)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype(np.uint8)
    inputs = make_inputs(images, "test", bundle.card.preprocessing, count=8, seed=0)
    found = located(row, ran, bundle, inputs, Silent())
    assert found.location is not None
    assert found.location.stage is None
    assert said in found.location.note
    assert found.reason == "far"


def test_an_embedded_file_gets_pixels_and_is_located(bundle: Bundle) -> None:
    made, artifact, _ = export_embedded(bundle)
    options = replace(QUICK, selection=Selection(formats=("embedded",)), locate=True)
    right = rows_of(made, options)
    assert {row.verdict for row in right.values()} == {"equivalent"}
    graph = Graph(onnx.load(str(made.path(artifact))))
    in_graph.IN_PLAIN["bias of a convolution lost"](graph)
    record(made, artifact, lambda path: onnx.save(graph.model, str(path)))
    for row in rows_of(made, options).values():
        assert row.location is not None
        assert row.location.stage == "pool2"
        assert "the error enters between model.fp32.onnx and model.embedded.onnx" in row.reason
