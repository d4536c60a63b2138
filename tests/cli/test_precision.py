"""``export --precision`` as a user types it."""

from __future__ import annotations

import json

import pytest

from tests.cli.failing import failure
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main

CALIBRATION = ["--calibration-data", "sample", "--calibration-images", "16"]


def test_precisions_are_made_from_an_fp32_file_that_is_made_first(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(tiny_bundle.root), "-p", "fp16", "-p", "int8", "-p", "fp16"]
    assert main([*words, *CALIBRATION, "--json"]) == 0
    out, said = capsys.readouterr()
    made = json.loads(out)["artifacts"]
    assert [a["path"] for a in made] == [f"model.{p}.onnx" for p in ("fp32", "fp16", "int8")]
    assert {a["parent"] for a in made[1:]} == {made[0]["sha256"]}
    assert "calibration divergence entropy" in said
    assert "of 65504 in" in said
    assert main([*words, *CALIBRATION]) == 0
    assert capsys.readouterr().err.count("reused, still valid") == 3


def test_a_backend_that_cannot_take_one_precision_skips_it(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(tiny_bundle.root)
    assert main(["export", root, "-p", "bf16"]) == 0
    capsys.readouterr()
    assert main(["verify", root, "-b", "ort-cpu", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    found = {row["subject"]["precision"]: row["verdict"] for row in rows}
    assert found == {"fp32": "equivalent", "bf16": "skipped"}
    tiny = open_bundle(tiny_bundle.root)
    assert tiny.find("onnx", "bf16")


@pytest.mark.parametrize(
    ("words", "code", "cause"),
    [
        (["-p", "fp15"], 2, "unknown precision 'fp15'"),
        (["-p", "fp16", "-f", "torchscript"], 2, "belongs to ONNX files, not to torchscript"),
        (["-p", "int8"], 2, "does not say which data set"),
        (["-p", "int8", "--calibration-data", "imagenet"], 2, "unknown data set 'imagenet'"),
        (["-p", "int8", "--calibration-images", "1"], 2, "calibration images: 1 is out"),
        (["-p", "int8", "--calibration-data", "sample", "--data-dir", "x"], 2, "the sample is"),
    ],
)
def test_refusals(
    tiny_bundle: Bundle,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    cause: str,
) -> None:
    got, said = failure(["export", str(tiny_bundle.root), *words], capsys)
    assert got == code
    assert cause in said
    assert not list(tiny_bundle.root.glob("model.int8*"))
