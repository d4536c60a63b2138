"""The benchmark of int8 itself, on a network of a few thousand weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import bench_int8
from vgg_deploy import jsonio
from vgg_deploy.bundle import Bundle


def test_speed_is_measured_beside_torch_and_kept(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "int8.json"
    words = ["-o", str(out), "--speed-bundle", str(tiny_bundle.root), "--blocks", "5"]
    assert bench_int8.main(words) == 0
    report = jsonio.load(bench_int8.Report, out)
    assert report.speed is not None
    names = [(s.backend, s.precision) for s in report.speed.subjects]
    assert names[0] == ("torch", "fp32")
    assert set(names[1:]) == {(b, p) for b in ("ort-cpu", "openvino") for p in ("fp32", "int8")}
    assert len(report.ratios) == 4
    assert "as fast as torch eager fp32" in capsys.readouterr().out
    unlike = ["-o", str(out), "--no-speed", "--trained", str(tiny_bundle.root)]
    assert bench_int8.main(unlike) == 3, "this bundle does not say what it was trained on"
    assert jsonio.load(bench_int8.Report, out) == report
