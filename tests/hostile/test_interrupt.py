"""Ctrl-C typed on a real terminal, to real commands in the middle of their work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.files import PARTIAL, sha256_of
from vgg_deploy.pipeline.yardstick import FILE as YARDSTICK

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("setsid") is None, reason="no setsid (util-linux)"),
]

TINY = ["--arch", "1x4-1x8", "--width", "1", "--size", "32", "--fc-width", "16"]
# What is run, and the text on the terminal after which Ctrl-C comes; all of it would take minutes.
COMMANDS = {
    "train": (["train", *TINY, "--epochs", "500", "--data", "sample", "-o", "new"], "epoch 1,"),
    "bench": (["bench", "bundle", "-b", "ort-cpu", "--seconds", "60", "--batch", "1"], "bench "),
    "verify": (["verify", "bundle", "--images", "900", "--data", "sample"], "float64"),
    "run": (["run", "--preset", "quick", "-o", "bundle2"], "train: epoch 1,"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_is_exit_130_and_the_old_state_is_intact(name: str, two_formats: Bundle) -> None:
    words, sign = COMMANDS[name]
    folder = two_formats.root.parent
    before = _digests(two_formats.root)
    code, said = _interrupted(words, sign, folder)
    assert code == 130, said
    assert "vgg-deploy: error: interrupted" in said or "by SIGINT" in said
    assert "Traceback" not in said
    assert _digests(two_formats.root) == before
    open_bundle(two_formats.root).check()
    assert not list(folder.rglob(f"{PARTIAL}*"))


def test_what_an_interrupted_training_finished_is_kept(two_formats: Bundle) -> None:
    folder = two_formats.root.parent
    _interrupted(*COMMANDS["train"], folder)
    assert (folder / "new" / "training" / "last.safetensors").is_file()
    assert not (folder / "new" / "manifest.json").exists(), "half a training is no bundle"


def _interrupted(words: list[str], sign: str, folder: Path) -> tuple[int, str]:
    """Run a command on a terminal and type Ctrl-C once ``sign`` is on it; exit code and screen."""
    code = "import sys; from vgg_deploy.cli import main; sys.exit(main())"
    keyboard, terminal = os.openpty()
    with subprocess.Popen(
        ["setsid", "--ctty", "--wait", sys.executable, "-c", code, *words],
        cwd=folder,
        stdin=terminal,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
    ) as process:
        os.close(terminal)
        late = threading.Timer(240, process.kill)
        late.start()
        said, typed = "", False
        while part := _read(keyboard):
            said += part
            if sign in said and not typed:
                os.write(keyboard, b"\x03")
                typed = True
        late.cancel()
    os.close(keyboard)
    return process.returncode, said


def _read(keyboard: int) -> str:
    try:
        return os.read(keyboard, 65536).decode("utf-8", errors="replace")
    except OSError:  # Linux's end of file: nobody has the terminal open any more
        return ""


def _digests(root: Path) -> dict[str, str]:
    """Of all files, but for one that verify keeps as soon as it has it: Ctrl-C may come later."""
    files = (path for path in root.rglob("*") if path.is_file() and path != root / YARDSTICK)
    return {str(path.relative_to(root)): sha256_of(path) for path in files}
