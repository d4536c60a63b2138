"""``NO_SKIPS``, as ``.ci/run`` sets it: what a missing part would skip is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WHOLE = "import pytest; pytest.importorskip('absent_library'); test = lambda: None"
ONE = "import pytest\ndef test(): pytest.importorskip('absent_library')"
FAILS = "import pytest\n@pytest.mark.xfail\ndef test(): raise ValueError"
GPU = ONE.replace("def", "@pytest.mark.gpu\ndef")


@pytest.mark.parametrize(
    ("script", "strict", "code"),
    [
        (WHOLE, "", 5),  # no test was collected
        (WHOLE, "1", 2),
        (ONE, "", 0),
        (ONE, "1", 1),
        (FAILS, "1", 0),
        (GPU, "1", 0),
    ],
)
def test_only_gpu_tests_may_be_skipped(tmp_path: Path, script: str, strict: str, code: int) -> None:
    (tmp_path / "test_it.py").write_text(script, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu: x\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", str(tmp_path)],
        env={**os.environ, "NO_SKIPS": strict, "PYTHONPATH": str(Path(__file__).parents[1])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    if script == WHOLE and strict:
        assert "could not import 'absent_library'" in done.stdout
