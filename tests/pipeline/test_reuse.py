"""Results that are kept, those that are not, and conditions that a precision cannot have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import photos
from tests.heard import Heard
from vgg_deploy import stored
from vgg_deploy.backends import BACKENDS
from vgg_deploy.backends.base import Missing
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.pipeline.bench import BenchOptions, bench_bundle, bench_error
from vgg_deploy.pipeline.cells import Selection
from vgg_deploy.pipeline.verified import NOT_VERIFIED
from vgg_deploy.pipeline.verify import (
    VerifyOptions,
    gates_of,
    tripped_gates,
    verify_bundle,
)
from vgg_deploy.results import BENCH_FILE, VERIFY_FILE, Figure, Timing, VerifyReport

ORT = Selection(backends=("ort-cpu",), formats=("onnx",))
BENCH = BenchOptions(selection=ORT, batches=(1,), seconds=0.05, ceilings=False, layers=False)
VERIFY = VerifyOptions(selection=ORT, images=8, accuracy=False, data="sample")


@pytest.fixture
def bundle(onnx_bundle: Bundle) -> Bundle:
    return onnx_bundle


def marked(bundle: Bundle, **changes: object) -> Timing:
    """The one stored timing of a fresh bench, changed and stored again."""
    made = bench_bundle(bundle, BENCH)
    row = replace(made.rows[0], **changes)  # type: ignore[arg-type]
    stored.save(bundle.root / BENCH_FILE, replace(made, rows=(row,)))
    return row


def test_a_timing_that_failed_is_tried_again(bundle: Bundle) -> None:
    marked(bundle, status="failed", reason="not enough memory", samples_ns=())
    watch = Heard()
    (row,) = bench_bundle(bundle, BENCH, watch, reuse=True).rows
    assert row.status == "measured"
    assert not any("reused" in text for text in watch.said)


def test_a_timing_that_breaks_a_rule_is_kept_and_said(bundle: Bundle) -> None:
    noisy = marked(bundle, marks=("noisy: quartiles ±40 %",))
    watch = Heard()
    (kept,) = bench_bundle(bundle, BENCH, watch, reuse=True).rows
    assert kept == replace(noisy, marks=(NOT_VERIFIED, *noisy.marks))
    (said,) = watch.said
    assert "1 of 1 timings break a rule" in said
    assert "noisy: quartiles ±40 %" in said
    assert f"remove {bundle.root / BENCH_FILE} to measure again" in said
    marked(bundle, marks=())
    watch = Heard()
    bench_bundle(bundle, BENCH, watch, reuse=True)
    assert watch.said == ["bench: reused, no file, option or version has changed"]


def test_a_verdict_that_failed_is_tried_again(bundle: Bundle) -> None:
    made = verify_bundle(bundle, VERIFY)
    assert verify_bundle(bundle, VERIFY, reuse=True) == made
    failed = replace(made.rows[0], verdict="failed", reason="not enough memory")
    stored.save(bundle.root / VERIFY_FILE, replace(made, rows=(failed,)))
    (row,) = verify_bundle(bundle, VERIFY, reuse=True).rows
    assert row.verdict == "equivalent"


def test_a_verdict_on_other_images_of_the_same_folder_is_not_kept(
    bundle: Bundle, tmp_path: Path
) -> None:
    options = replace(VERIFY, data=str(photos(tmp_path / "photos", 1)))
    made = verify_bundle(bundle, options)
    assert verify_bundle(bundle, options, reuse=True) == made
    photos(tmp_path / "photos", 2)
    assert verify_bundle(bundle, options, reuse=True).key != made.key


def test_a_condition_on_torch_eager_is_not_one_on_int8(bundle: Bundle) -> None:
    """int8 has no torch eager; a figure that is missing elsewhere still trips."""
    (row,) = verify_bundle(bundle, VERIFY).rows
    blank = Figure(name="eager_ratio", value=None, limit=None, ok=True)
    figures = (*(f for f in row.figures if f.name != "eager_ratio"), blank)
    single = replace(row, figures=figures)
    whole = replace(single, subject=replace(row.subject, precision="int8"))
    gates = gates_of(["eager_ratio>1e6"])
    assert [t.value for t in tripped_gates([single], gates)] == [None]
    assert tripped_gates([whole], gates) == ()
    assert len(tripped_gates([whole], gates_of(["kl>-1"]))) == 1


def test_a_condition_on_torch_eager_where_no_file_has_one_is_refused(
    bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = bundle.root / "manifest.json"
    text = json.loads(manifest.read_text())
    for artifact in text["artifacts"]:
        if artifact["format"] == "onnx":
            artifact["precision"] = "int8"  # what is asked is only how it would be judged
    manifest.write_text(json.dumps(text))
    words = ["verify", str(bundle.root), "-b", "ort-cpu", "--data", "sample", "--images", "8"]
    assert main([*words, "--fail-if", "eager_ratio>5"]) == 3
    assert "torch eager has no int8" in capsys.readouterr().err


def test_how_verify_was_asked_is_stored(bundle: Bundle, tmp_path: Path) -> None:
    """Of folders only that there was one: where they lie is this machine's own business."""
    verify_bundle(bundle, replace(VERIFY, max_top1_drop=2.5, seed=3))
    kept = stored.load(VerifyReport, bundle.root / VERIFY_FILE)
    assert kept.options == {
        "images": "8", "seed": "3", "data": "sample", "accuracy": "off", "max_top1_drop": "2.5",
        "backend": "ort-cpu", "format": "onnx",
    }  # fmt: skip
    given = photos(tmp_path / "photos", 1)
    told = verify_bundle(bundle, replace(VERIFY, data=str(given))).options
    assert str(tmp_path) not in str(told)


@pytest.mark.parametrize("file", [VERIFY_FILE, BENCH_FILE])
def test_where_nothing_ran_what_was_found_before_stays(
    file: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench", "--seconds", "0.05", "--no-limits", "--batch", "1"]
    if file == VERIFY_FILE:
        command = ["verify", "--images", "8", "--no-accuracy", "--data", "sample"]
    words = [command[0], str(bundle.root), *command[1:], "-f", "onnx"]
    path = bundle.root / file
    with monkeypatch.context() as gone:
        lose_backends(gone)
        assert main(words) == 10
        assert {r.get("verdict", r.get("status")) for r in rows(path)} == {"skipped"}, "the first"
        assert main(words) == 10
    assert main([*words, "-b", "ort-cpu"]) == 0
    before = path.read_bytes()
    capsys.readouterr()
    lose_backends(monkeypatch)
    assert main(words) == 10
    assert f"so {file} stays as it was" in capsys.readouterr().err
    assert path.read_bytes() == before


def lose_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the reference is left, which opens no ONNX file."""
    nothing = Missing("no library", "install one")
    for name, backend in BACKENDS.items():
        if name != "torch":
            monkeypatch.setattr(type(backend), "probe", lambda self: nothing)


def rows(path: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(path.read_text())["rows"]
    return found


def test_of_timings_that_failed_only_those_that_were_tried_are_counted(bundle: Bundle) -> None:
    made = bench_bundle(bundle, BENCH)
    failed = replace(made.rows[0], status="failed", reason="broke", samples_ns=())
    skipped = replace(failed, status="skipped", batch=0)
    error = bench_error(replace(made, rows=(failed, skipped)))
    assert error is not None
    assert error.cause.startswith("1 of 1 cells failed")
