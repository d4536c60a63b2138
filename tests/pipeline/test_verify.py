"""Verify as a whole: which hop and which stage is named, gates, what is kept, what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.export.networks import lively_bundle
from tests.faults import in_export, in_graph, in_runtime
from tests.faults.bases import card
from tests.faults.catalogue import edited, exported, record, wrapped
from tests.faults.graph import Graph
from vgg_deploy.backends import BACKENDS
from vgg_deploy.backends.base import Missing
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import RefusedInput, UsageError
from vgg_deploy.export.embedded import export_embedded
from vgg_deploy.pipeline.cells import Cell, Selection
from vgg_deploy.pipeline.chain import Ran
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.locate import located
from vgg_deploy.pipeline.verify import VerifyOptions, gates_of, verdict_error, verify_bundle
from vgg_deploy.pipeline.watch import Silent
from vgg_deploy.results import VERIFY_FILE, Comparison, VerifyReport
from vgg_deploy.stored import load
from vgg_deploy.verify.inputs import make_inputs

ONNX = Selection(formats=("onnx",))
EMBEDDED = Selection(backends=("ort-cpu",), formats=("embedded",))
QUICK = VerifyOptions(selection=ONNX, images=8, accuracy=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32 and fp16 ONNX, a script and a program of one lively network; never write to it."""
    root = tmp_path_factory.mktemp("made") / "bundle"
    bundle = lively_bundle(root, card("1x8-1x16-3x32"))
    return export_bundle(bundle, ("onnx", "torchscript", "program"), precisions=("fp16",))[0].root


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(made, tmp_path / "bundle"))


def rows_of(bundle: Bundle, options: VerifyOptions = QUICK) -> dict[str, Comparison]:
    report = verify_bundle(open_bundle(bundle.root), options)
    return {row.subject.id: row for row in report.rows}


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


def test_the_worst_image_is_named_and_shown(bundle: Bundle) -> None:
    row = rows_of(bundle)["ort-cpu:model.fp32.onnx"]
    assert row.worst is not None
    figure = row.figure("rel_l2")
    assert figure is not None
    assert figure.value is not None
    assert row.worst.rel_l2 == figure.value
    assert row.worst.name.split()[0] in ("sample", "fashion-mnist", "noise", "all")
    assert len(row.worst.png) > 50


def test_gates_trip_and_are_stored(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["verify", str(bundle.root), "-b", "ort-cpu", "--images", "8", "--no-accuracy"]
    assert main([*words, "--fail-if", "rel_l2>0.1"]) == 0
    assert main([*words, "--fail-if", "rel_l2>1e-9", "--fail-if", "cosine<0.5"]) == 7
    assert "rel_l2>1e-09" in capsys.readouterr().err
    report = load(VerifyReport, bundle.root / VERIFY_FILE)
    assert {t.gate for t in report.tripped} == {"rel_l2>1e-09"}
    assert all(row.verdict == "equivalent" for row in report.rows)
    assert report.tolerances["fp16"]["k"] == 3


@pytest.mark.parametrize(
    ("gate", "code", "said"),
    [
        ("rel_l2", 2, "not a condition"),
        ("rel_l2>many", 2, "not a number"),
        ("top1_dorp>0.5", 2, "did you mean 'top1_drop'"),
        ("top1_drop>0.5", 3, "cannot be told"),
    ],
)
def test_bad_gates(
    bundle: Bundle, gate: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["verify", str(bundle.root), "--no-accuracy", "--fail-if", gate]
    assert main(words) == code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("gate", ["top5_drop>0", "top5_agreement<0.9"])
def test_gates_on_five_classes_of_five_are_refused(
    gate: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = card("1x8-1x16")
    few = replace(plain, spec=replace(plain.spec, classes=5), labels=plain.labels[:5])
    made = export_bundle(lively_bundle(tmp_path / "bundle", few), ("onnx",))[0]
    words = ["verify", str(made.root), "-b", "ort-cpu", "--data", "sample", "--no-accuracy"]
    assert main([*words, "--fail-if", gate]) == 3
    assert "the model has 5 classes" in capsys.readouterr().err


def test_options_are_checked() -> None:
    with pytest.raises(UsageError):
        VerifyOptions(max_top1_drop=101)
    with pytest.raises(UsageError):
        VerifyOptions(batches=())
    with pytest.raises(UsageError, match="seed -1"):
        VerifyOptions(seed=-1)
    assert gates_of(None) == ()


def test_too_few_images_prove_nothing(bundle: Bundle) -> None:
    with pytest.raises(RefusedInput, match="too few"):
        verify_bundle(bundle, replace(QUICK, images=7))


def test_int8_without_labels_cannot_be_judged(bundle: Bundle) -> None:
    manifest = bundle.root / "manifest.json"
    text = json.loads(manifest.read_text())
    for artifact in text["artifacts"]:
        if artifact["precision"] == "fp16":
            artifact["precision"] = "int8"  # what is asked is only how it would be judged
    manifest.write_text(json.dumps(text))
    report = verify_bundle(open_bundle(bundle.root), QUICK)
    rows = [row for row in report.rows if row.subject.precision == "int8"]
    rows = [row for row in rows if row.verdict != "skipped"]  # backends that need a GPU
    assert rows
    assert all(row.verdict == "failed" for row in rows)
    assert "judged by accuracy" in rows[0].reason
    error = verdict_error(report)
    assert error is not None
    assert error.exit_code == 7


def test_without_a_usable_backend_it_is_exit_10(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = Missing("no library", "install one")
    for name, backend in BACKENDS.items():
        if name != "torch":  # the reference needs it
            monkeypatch.setattr(type(backend), "probe", lambda self: nothing)
    words = ["verify", str(bundle.root), "--images", "8", "--no-accuracy", "-f", "onnx"]
    assert main(words) == 10
    assert "no backend could be verified" in capsys.readouterr().err
    report = load(VerifyReport, bundle.root / VERIFY_FILE)
    assert {row.verdict for row in report.rows} == {"skipped"}
    monkeypatch.setattr(type(BACKENDS["torch"]), "probe", lambda self: nothing)
    assert main(words) == 10
    assert "the float64 reference needs torch" in capsys.readouterr().err


def test_the_terminal_shows_where_it_went_wrong(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    edited(in_graph.IN_PLAIN["bias of a convolution lost"], "fp16")(bundle)
    words = ["verify", str(bundle.root), "-b", "ort-cpu", "--images", "8", "--no-accuracy"]
    assert main([*words, "--locate"]) == 7
    out = " ".join(capsys.readouterr().out.split())
    assert "model.fp32.onnx → model.fp16.onnx" in out
    assert "pool2" in out


def test_json_holds_every_figure_beside_its_limit(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["verify", str(bundle.root), "-b", "ort-cpu", "--images", "8", "--data", "sample"]
    main([*words, "--json"])
    report = json.loads(capsys.readouterr().out)
    row = report["rows"][0]
    limits = {f["name"]: f["limit"] for f in row["figures"]}
    for name in ("rel_l2", "max_abs", "unexcused_flips", "batch_spread", "top1_drop"):
        assert limits[name] is not None, name
    assert {"top1_low", "top1_high", "top1_drop_high"} <= set(limits)
    assert row["accuracy"]["total"] == 1000
    assert sum(map(sum, row["accuracy"]["confusion"])) == 1000
    assert set(report["tolerances"]) == {"fp32", "fp16"}


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
