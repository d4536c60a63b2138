"""How a command starts: its help, its threads, and what it does not import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.failing import failure
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.cli.app import COMMANDS


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
