"""What a command refuses: exit codes, and the two lines of an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.failing import TINY, failure
from tests.conftest import photos
from vgg_deploy.bundle import Bundle

ORT_AND_TORCH = ["-b", "torch", "-b", "ort-cpu"]
PAIR = ["--compare", "torch", "--compare", "torchscript"]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["train", "--arch", "vgg12", "-o", "x"], 2, "did you mean"),
        (["train", "--size", "16", "-o", "x"], 2, "too small"),
        (["train", "--recipe", "bok", "-o", "x"], 2, "book"),
        (["export", "BUNDLE", "--format", "onx"], 2, "did you mean 'onnx'"),
        (["export", "BUNDLE", "--calibration-images", "500"], 2, "nothing is measured on images"),
        (["export", "BUNDLE", "-p", "bf16", "--data-dir", "."], 2, "nothing is measured on images"),
        (["predict", "BUNDLE", "FILE", "-p", "fp17"], 2, "did you mean 'fp16'"),
        (["predict", "BUNDLE", "FILE", "-p", "int8"], 3, "--format onnx --precision int8"),
        (["predict", "BUNDLE", "FILE", "-b", "ort-cpu", "-p", "int8"], 3, "--precision int8"),
        (["predict", "BUNDLE", "FILE", "-b", "torch", "-p", "int8"], 3, "leave out --precision"),
        (["verify", "BUNDLE", "--backend", "ort-cpuu"], 2, "did you mean 'ort-cpu'"),
        (["verify", "BUNDLE", "--backend", "ort-cpu"], 3, "holds no onnx"),
        (["verify", "BUNDLE", "--format", "onnx"], 3, "export"),
        (["verify", "nothing-here"], 3, "no bundle"),
        (["inspect", "FILE"], 3, "is a file"),
        (["predict", "BUNDLE", "FILE"], 3, "FILE"),
        (["load", "--weights", "FILE", "--arch", "vgg11", "-o", "x"], 3, "is a text"),
        (["load", "--weights", "VGG99_Weights.X", "-o", "x"], 2, "VGG"),
        (["load", "--weights", "CHECKPOINT", "--classes", "7", "-o", "x"], 3, "10 classes, not 7"),
        (["train", "-o", "FILE/below"], 3, "below a file"),
        (["bench", "BUNDLE", "--batch", "0"], 2, "batch 0"),
        (["bench", "BUNDLE", "--percentile", "42"], 2, "percentile"),
        (["bench", "BUNDLE", "--fail-if", "p99>20"], 2, "did you mean 'p99_ms'"),
        (["bench", "BUNDLE", "--fail-if", "fast"], 2, "not a condition"),
        (["bench", "BUNDLE", "--compare", "torch"], 2, "only torch to compare"),
        (["bench", "BUNDLE", "--compare", "torch", "--compare", "x"], 2, "unknown backend"),
        (["bench", "BUNDLE", *PAIR, "--fail-if", "p50_ms>1"], 2, "diff --fail-if"),
        (["bench", "BUNDLE", *PAIR, "-b", "torch"], 2, "--backend means nothing"),
        (["bench", "BUNDLE", *PAIR, "-f", "onnx"], 2, "--format means nothing"),
        (["bench", "BUNDLE", *PAIR, "--seconds", "3"], 2, "--seconds means nothing"),
        (["bench", "BUNDLE", *PAIR, "--percentile", "90"], 2, "--percentile means nothing"),
        (["bench", "BUNDLE", *PAIR, "--no-limits"], 2, "--no-limits means nothing"),
        (["bench", "BUNDLE", "--blocks", "9"], 2, "--blocks needs --compare"),
        (["choose", "BUNDLE"], 3, "no results of verify"),
        (["choose", "BUNDLE", "--latency-ms", "0"], 2, "not above 0"),
        (["choose", "BUNDLE", "--max-top1-drop", "nan"], 2, "use a finite number"),
        (["choose", "BUNDLE", "--latency-ms", "inf"], 2, "use a finite number"),
        (["verify", "BUNDLE", "--seed", "-1"], 2, "--seed"),
        (["plan-capacity", "BUNDLE", "--qps", "1", "--p99-ms", "9", "--seed", "-1"], 2, "--seed"),
        (["verify", "BUNDLE", "-b", "ort-cpu", "-f", "checkpoint"], 2, "is for ort-cpu"),
        (["bench", "BUNDLE", "-b", "ort-cpu", "-f", "checkpoint"], 2, "is for ort-cpu"),
        (["bench", "BUNDLE", *ORT_AND_TORCH, "-f", "checkpoint"], 2, "checkpoint file is for ort"),
        (["verify", "BUNDLE", *ORT_AND_TORCH, "-f", "checkpoint"], 2, "checkpoint file is for ort"),
        (["diff", "BUNDLE", "FILE"], 3, "and vgg-deploy bench "),
        (["diff", "FILE", "FILE"], 3, "does not hold results of bench"),
        (["diff", "ABSENT", "FILE"], 3, "results of bench ABSENT does not exist"),
        (["run", "--preset", "fashion"], 2, "fashion-mnist"),
        (["nonsense"], 2, "nonsense"),
        (["verify", "BUNDLE", "--nonsense"], 2, "nonsense"),
        (["verify", "BUNDLE", "--images", "many"], 2, "integer"),
    ],
)
def test_bad_input(
    words: list[str],
    code: int,
    text: str,
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("no weights, no image")
    names = {
        "BUNDLE": str(tiny_bundle.root),
        "CHECKPOINT": str(tiny_bundle.path(tiny_bundle.checkpoint)),
    }
    before = sorted(tmp_path.rglob("*"))
    found, said = failure([names.get(word, word) for word in words], capsys)
    assert found == code, said
    assert text in said
    assert sorted(tmp_path.rglob("*")) == before, "something was left behind"


def test_an_edited_bundle_is_exit_4_everywhere(
    two_formats: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx = two_formats.find("onnx")
    assert onnx is not None
    with two_formats.path(onnx).open("r+b") as file:
        file.truncate(onnx.size_bytes // 2)
    image = tmp_path / "x.png"
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(image)
    root = str(two_formats.root)
    for words in (
        ["inspect", root],
        ["verify", root],
        ["bench", root],
        ["predict", root, str(image), "-b", "ort-cpu"],
    ):
        assert failure(words, capsys)[0] == 4


@pytest.mark.parametrize(
    "words",
    [
        ["load", "--weights", "WEIGHTS", "-o", ""],
        ["load", "--weights", "WEIGHTS", "--out="],
        ["train", "--data", "sample", *TINY, "--epochs", "1", "-o", ""],
        ["run", "--preset", "quick", "-o", ""],
        ["report", "BUNDLE", "-o", ""],
        ["embed", "BUNDLE", "-t", "node", "-o", ""],
        ["export", ""],
        ["train", *TINY, "--epochs", "1", "--from", "", "-o", "trained"],
        ["train", *TINY, "--epochs", "1", "--data-dir", "", "-o", "trained"],
        ["verify", "BUNDLE", "--data-dir", " "],
    ],
)
def test_an_empty_path_is_not_the_current_folder(
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
) -> None:
    """As the variable that is not set in ``-o "$OUT"``."""
    names = {
        "WEIGHTS": str(tiny_bundle.path(tiny_bundle.checkpoint)),
        "BUNDLE": str(tiny_bundle.root),
    }
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    code, said = failure([names.get(word, word) for word in words], capsys)
    assert (code, list(here.iterdir())) == (2, [])
    assert "the path is empty" in said


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["train", *TINY, "--epochs", "1", "--data", "", "-o", "trained"], "data set is empty"),
        (["verify", "BUNDLE", "-b", "torch", "--data="], "data set is empty"),
        (["verify", "BUNDLE", "-b", "torch", "--data", " "], "data set is empty"),
        (["export", "BUNDLE", "-p", "int8", "--calibration-data", ""], "data set is empty"),
        (["train", *TINY, "--recipe", "", "-o", "trained"], "unknown recipe ''"),
        (["load", "--weights", "WEIGHTS", "--head", "", "-o", "loaded"], "unknown head ''"),
        (["predict", "BUNDLE", "IMAGE", "-p", ""], "unknown precision ''"),
        (["summary", "vgg11", "--versus", ""], "unknown architecture ''"),
    ],
)
def test_an_empty_word_is_not_an_option_that_was_left_out(
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    text: str,
) -> None:
    """As the variable that is not set in ``--data "$DATA"``."""
    here = photos(tmp_path / "here", 0)
    monkeypatch.chdir(here)
    names = {
        "WEIGHTS": str(tiny_bundle.path(tiny_bundle.checkpoint)),
        "BUNDLE": str(tiny_bundle.root),
        "IMAGE": "cat/0.png",
    }
    before = sorted(tmp_path.rglob("*"))
    code, said = failure([names.get(word, word) for word in words], capsys)
    assert code == 2
    assert text in said
    assert sorted(tmp_path.rglob("*")) == before
