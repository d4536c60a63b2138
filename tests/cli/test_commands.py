"""Every command as a user types it: output, exit codes, the two lines of an error."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import make_bundle, make_card, photos
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.cli.app import COMMANDS

TINY = ["--arch", "1x4-1x8", "--width", "1", "--size", "32", "--fc-width", "16"]
ORT_AND_TORCH = ["-b", "torch", "-b", "ort-cpu"]
PAIR = ["--compare", "torch", "--compare", "torchscript"]


def failure(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and stderr of a command that must fail in two lines without a traceback."""
    code = main(args)
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith(("vgg-deploy: error:", "  rem"))]
    assert len(lines) == 2, said
    assert "Traceback" not in said
    return code, said


@pytest.mark.parametrize("command", [*COMMANDS, None])
def test_help_has_an_example(command: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*([command] if command else []), "--help"]) == 0
    assert "Example: vgg-deploy" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_an_example(command: str) -> None:
    assert f"Example: vgg-deploy {command}" in (COMMANDS[command].__doc__ or "")


@pytest.mark.parametrize("command", ["verify", "bench", "export", "predict", "train", "run"])
def test_a_wrong_number_of_threads_is_refused_before_any_work(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    words = {"predict": ["b", "x.png"], "train": ["-o", "b"], "run": ["-o", "b"]}.get(
        command, ["b"]
    )
    code, said = failure([command, *words], capsys)
    assert code == 2
    assert "OMP_NUM_THREADS is 'many', which is no number of threads" in said
    assert main([command, "--help"]) == 0


def test_what_computes_nothing_does_not_mind_the_threads(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert main(["inspect", str(tiny_bundle.root)]) == 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vgg-deploy 0.")


def test_python_m_is_the_same_command() -> None:
    command = [sys.executable, "-m", "vgg_deploy", "export", "no-such-bundle"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == main(["export", "no-such-bundle"])
    assert "vgg-deploy: error: " in done.stderr


def test_help_and_inspect_need_no_torch(tiny_bundle: Bundle) -> None:
    code = (
        "import sys\n"
        "from vgg_deploy.cli import main\n"
        f"assert main(['inspect', {str(tiny_bundle.root)!r}]) == 0\n"
        "assert main(['--help']) == 0\n"
        "heavy = {'torch', 'onnxruntime', 'openvino', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_predicting_with_onnx_needs_no_torch(two_formats: Bundle, tmp_path: Path) -> None:
    image = tmp_path / "x.png"
    Image.fromarray(np.full((40, 30), 120, np.uint8)).save(image)
    words = ["predict", str(two_formats.root), str(image), "--backend", "ort-cpu", "--json"]
    code = (
        "import sys\n"
        "from vgg_deploy.cli import main\n"
        f"assert main({words!r}) == 0\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (prediction,) = json.loads(done.stdout)
    assert len(prediction["classes"]) == 5
    assert sum(p for _, p in prediction["classes"]) <= 1.0001


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
        (["load", "--weights", "FILE", "--arch", "vgg11", "-o", "x"], 3, "PyTorch"),
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
        (["diff", "BUNDLE", "FILE"], 3, "does not exist"),
        (["diff", "FILE", "FILE"], 3, "does not hold a BenchReport"),
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


def test_doctor_lists_every_backend(capsys: pytest.CaptureFixture[str]) -> None:
    from vgg_deploy.backends import BACKENDS

    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [finding["name"] for finding in found["backends"]] == list(BACKENDS)
    assert main(["doctor"]) == 0


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
