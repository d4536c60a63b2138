"""Commands as a user types them: what they print and store, and their exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.failing import TINY, failure
from tests.conftest import make_bundle, make_card
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main


def test_summary_of_a_bundle_names_inspect(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["summary", str(tiny_bundle.root)]) == 2
    error = capsys.readouterr().err
    assert f"{tiny_bundle.root} is a bundle" in error
    assert f"remedy: vgg-deploy inspect {tiny_bundle.root}\n" in error


def test_an_architecture_goes_before_a_bundle_of_its_name(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_bundle.root.rename(tiny_bundle.root.with_name("vgg11")).parent)
    assert main(["summary", "vgg11"]) == 0
    assert "The 11 weight layers" in capsys.readouterr().out


def test_summary_prints_the_books_table(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["summary", "vgg11", "--width", "0.25", "--channels", "1", "--classes", "10"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "1 × 16 × 112 × 112" in out
    assert "The 11 weight layers" in out
    assert main([*words, "--versus", "alexnet"]) == 0
    assert "46,764,746" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"]["name"] == "vgg11"


def test_verify_bench_report_on_two_formats(
    two_formats: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(two_formats.root)
    backends = ["-b", "torch", "-b", "torchscript", "-b", "ort-cpu", "-b", "openvino"]
    assert main(["verify", root, *backends, "--data", "sample", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in report["rows"]] == ["equivalent"] * 4
    words = ["bench", root, "-b", "ort-cpu", "--batch", "1", "--seconds", "0.1", "--json"]
    assert main(words) == 0
    timed = json.loads(capsys.readouterr().out)
    (row,) = timed["rows"]
    assert timed["ceilings"]
    assert timed["layers"]
    assert len(row["samples_ns"]) >= 64
    assert row["load_s"] > 0
    assert row["peak_memory_bytes"] > 1_000_000
    assert not any("not verified" in mark for mark in row["marks"])
    assert main(["report", root]) == 0
    page = (two_formats.root / "report.html").read_text(encoding="utf-8")
    assert "Equivalent" in page
    assert page.count("<svg") >= 2
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_gates_comparison_diff_and_choice(
    two_formats: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(two_formats.root)
    timed = ["bench", root, "-b", "ort-cpu", "--batch", "1", "--seconds", "0.1", "--no-limits"]
    assert failure([*timed, "--fail-if", "p50_ms>1e6"], capsys)[0] == 8  # not verified: no gate
    assert main(["verify", root, "-b", "ort-cpu", "--data", "sample", "--images", "8"]) == 0
    capsys.readouterr()
    code, said = failure([*timed, "--fail-if", "file_mb>0"], capsys)  # a size needs no quiet
    assert code == 1
    assert "file_mb>0: ort-cpu:model.fp32.onnx at batch 1 has" in said
    pair = ["--compare", "ort-cpu", "--compare", "torchscript", "--blocks", "5"]
    assert main(["bench", root, *pair, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert found["ratios"][0]["says"] in ("faster", "slower", "no difference shown")
    assert main(["bench", root, *pair]) == 0
    assert "Compared in turns at batch 1" in capsys.readouterr().out
    assert main(["diff", root, root, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["ratio"]["ratio"] == 1
    assert main(["choose", root, "--latency-ms", "1e6", "--unsettled"]) == 0
    assert "What fits" in capsys.readouterr().out
    code, said = failure(["choose", root, "--latency-ms", "1e-6", "--unsettled"], capsys)
    assert code == 1
    assert "nearest: ort-cpu:model.fp32.onnx" in said


def test_other_weights_in_the_onnx_are_not_equivalent(
    two_formats: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The planted fault: an ONNX file of other weights, entered as if it were this bundle's."""
    other = make_bundle(tmp_path / "other", make_card(), seed=1)
    assert main(["export", str(other.root), "-f", "onnx"]) == 0
    onnx = open_bundle(other.root).find("onnx")
    assert onnx is not None
    manifest = two_formats.root / "manifest.json"
    mine = two_formats.find("onnx")
    assert mine is not None
    text = manifest.read_text().replace(mine.sha256, onnx.sha256)
    manifest.write_text(text.replace(f": {mine.size_bytes},", f": {onnx.size_bytes},"))
    two_formats.path(mine).write_bytes(open_bundle(other.root).path(onnx).read_bytes())
    capsys.readouterr()
    code, said = failure(["verify", str(two_formats.root), "-b", "ort-cpu"], capsys)
    assert code == 7
    assert "rel_l2" in said


def test_train_makes_a_bundle_and_does_not_overwrite_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "trained"
    words = ["train", *TINY, "--epochs", "1", "--data", "sample", "-o", str(out)]
    assert main(words) == 0
    bundle = open_bundle(out)
    bundle.check()
    assert bundle.checkpoint.made_by["recipe"] == "modern"
    assert bundle.card.dataset == "sample", "the card says what it was really trained on"
    capsys.readouterr()
    assert failure(words, capsys)[0] == 3


def test_load_a_local_file(tiny_bundle: Bundle, tmp_path: Path) -> None:
    weights = tiny_bundle.path(tiny_bundle.checkpoint)
    out = tmp_path / "loaded"
    assert main(["load", "--weights", str(weights), "-o", str(out)]) == 0
    assert open_bundle(out).card == tiny_bundle.card


def test_doctor_lists_every_backend(capsys: pytest.CaptureFixture[str]) -> None:
    from vgg_deploy.backends import BACKENDS

    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [finding["name"] for finding in found["backends"]] == list(BACKENDS)
    assert main(["doctor"]) == 0
