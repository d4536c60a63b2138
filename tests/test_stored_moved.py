"""Stored reasons hold wherever their bundle is moved to: they do not name its folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.rows import report, row
from vgg_deploy import stored
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.files import word
from vgg_deploy.results import BENCH_FILE, VERIFY_FILE, BenchReport


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_what_is_skipped_names_no_folder(
    command: str, onnx_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--images", "8", "--data", "sample", "--no-accuracy"]
    if command == "bench":
        options = ["--seconds", "0.05", "--batch", "1", "--no-limits"]
    main([command, str(onnx_bundle.root), "--json", *options])
    file = VERIFY_FILE if command == "verify" else BENCH_FILE
    text = (onnx_bundle.root / file).read_text()
    assert "make it: vgg-deploy export BUNDLE --format torchscript" in text
    assert str(onnx_bundle.root) not in text
    if command == "verify":
        assert json.loads(capsys.readouterr().out) == json.loads(text)


@pytest.mark.parametrize("name", ["a", "x/a", "my bundle", "../a", "."])
@pytest.mark.parametrize("absolute", [False, True])
def test_reasons_name_files_as_the_bundle_does(
    name: str, absolute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    root = Path(name)
    told = root.absolute() if absolute else root
    said = f"a backend could not open {told / 'model.onnx'}: a, data/b; see /opt/a/c, xa/d"
    made = f"make it: vgg-deploy build {word(told)} --flavour a"
    broken = replace(row("ort-cpu", 5), status="failed", reason=f"{said}; {made}", samples_ns=())
    stored.save(root / BENCH_FILE, report([broken]))
    kept = stored.load(BenchReport, root / BENCH_FILE).rows[0].reason
    assert kept == (
        "a backend could not open model.onnx: a, data/b; see /opt/a/c, xa/d; "
        "make it: vgg-deploy build BUNDLE --flavour a"
    )


def test_a_command_for_another_folder_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = "see vgg-deploy verify .. and vgg-deploy verify ./other and ./data"
    broken = replace(row("ort-cpu", 5), status="failed", reason=said, samples_ns=())
    kept = stored.document(report([broken]), Path())
    assert kept["rows"][0]["reason"] == said
