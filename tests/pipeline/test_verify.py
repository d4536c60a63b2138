"""Verify as a whole: the worst image, gates, what is kept, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.export.networks import lively_bundle
from tests.faults import in_graph
from tests.faults.bases import card
from tests.faults.catalogue import edited
from tests.pipeline.verifying import QUICK, rows_of
from vgg_deploy.backends import BACKENDS
from vgg_deploy.backends.base import Missing
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import NotEquivalent, RefusedInput, UsageError
from vgg_deploy.pipeline import verify_cells
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.verify import VerifyOptions, gates_of, verdict_error, verify_bundle
from vgg_deploy.results import VERIFY_FILE, VerifyReport
from vgg_deploy.stored import load


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
    judged = [row for row in report.rows if row.verdict != "skipped"]
    assert len(judged) < len(report.rows)
    assert f"{len(rows)} of {len(judged)} not equivalent" in error.cause


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


@pytest.mark.parametrize(
    ("cause", "code"),
    [(OSError(28, "No space left on device"), 6), (MemoryError(), 6), (OSError(5, "I/O error"), 7)],
)
def test_what_ran_out_is_not_held_against_the_files(
    cause: Exception,
    code: int,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As where a compiler finds no room: its own exception, with the system's behind it."""

    def broken(*_: object) -> str:
        raise RuntimeError("the compiler broke") from cause

    monkeypatch.setattr(verify_cells, "contradiction", broken)
    words = ["verify", str(bundle.root), "-b", "ort-cpu", "--images", "8", "--no-accuracy"]
    assert main(words) == code
    assert "the compiler broke" in capsys.readouterr().err
    report = load(VerifyReport, bundle.root / VERIFY_FILE)
    assert {(row.verdict, row.ran_out) for row in report.rows} == {("failed", code == 6)}
    worse = replace(report, rows=(*report.rows, replace(report.rows[0], ran_out=False)))
    assert isinstance(verdict_error(worse), NotEquivalent)  # one that broke by itself
