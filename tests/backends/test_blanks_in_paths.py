"""torch calls the C++ compiler without quotes: what compiles does so where a path is one word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import make_bundle, make_card

VERIFY = ("-b", "torch-compile", "-b", "aoti", "--images", "8", "--data", "sample", "--no-accuracy")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "my bundles" / "it's one", make_card()).root


def ran(tmp_path: Path, cache: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command with a blank in TMPDIR, which Python reads when it starts."""
    temporary = tmp_path / "my temporary files"
    temporary.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"}
    env = kept | {"TMPDIR": str(temporary), "XDG_CACHE_HOME": str(tmp_path / cache)}
    command = (sys.executable, "-m", "vgg_deploy", *words)
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_blanks_are_no_hindrance(root: Path, tmp_path: Path) -> None:
    made = ran(tmp_path, "cache", "export", str(root), "--format", "aoti")
    assert made.returncode == 0, made.stderr
    judged = ran(tmp_path, "cache", "verify", str(root), *VERIFY)
    assert judged.returncode == 0, judged.stderr
    assert "2 equivalent" in judged.stdout
    assert not [path for path in root.iterdir() if path.name.startswith(".partial")]
    compiled = sorted((tmp_path / "cache" / "vgg-deploy" / "inductor").iterdir())
    assert [path for path in compiled if path.name.startswith("tmp")] == []


def test_without_any_place_the_true_cause_is_told(root: Path, tmp_path: Path) -> None:
    made = ran(tmp_path, "my cache", "export", str(root), "--format", "aoti")
    assert made.returncode == 10
    assert "torch calls the compiler without quotes" in made.stderr
    assert "set XDG_CACHE_HOME to a folder whose path has none" in made.stderr
    assert not (root / "model.fp32.aoti.pt2").exists()
