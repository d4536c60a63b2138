"""The export lines that a report prints are run: every file stays what it is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import pytest

from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.report.findings import gather
from vgg_deploy.report.reproduce import commands

MEASURED = "--calibration-data sample --calibration-images"


def files(bundle: Bundle) -> Mapping[str, str]:
    return {str(a.path): a.sha256 for a in open_bundle(bundle.root).artifacts}


def export(bundle: Bundle, words: str) -> None:
    assert main(["export", str(bundle.root), *shlex.split(words)]) == 0


def test_printed_export_lines_keep_every_file(
    onnx_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export(onnx_bundle, f"--format onnx --precision fp16 {MEASURED} 8")
    export(onnx_bundle, f"--format onnx --precision int8 {MEASURED} 16")
    export(onnx_bundle, f"--format onnx --precision int8 {MEASURED} 16 --embedded --topk 2")
    before = files(onnx_bundle)
    assert {"model.fp16.onnx", "model.int8.onnx"} < before.keys()
    lines = [c for c in commands(gather(open_bundle(onnx_bundle.root))) if " export " in c]
    monkeypatch.chdir(onnx_bundle.root.parent)
    capsys.readouterr()
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0
    said = capsys.readouterr().err
    assert said.count("reused, still valid") >= len(before) - 1
    assert " made, " not in said
    assert files(onnx_bundle) == before
