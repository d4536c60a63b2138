"""Which GPU a result is told to be of, with a stand-in for the driver's tool."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vgg_deploy import environment

TOOL = f"""#!{sys.executable}
import sys
rows = {{"0": "NVIDIA T4", "1": "NVIDIA L4", "GPU-1f": "NVIDIA L4"}}
chosen = sys.argv[sys.argv.index("-i") + 1] if "-i" in sys.argv else None
for name in [rows[chosen]] if chosen else list(rows.values())[:2]:
    print(name + ", 595.71")
"""


@pytest.mark.parametrize(
    ("visible", "name"),
    [
        (None, "NVIDIA T4"),
        ("", "NVIDIA T4"),
        ("0,1", "NVIDIA T4"),
        ("1", "NVIDIA L4"),
        ("1,0", "NVIDIA L4"),
        ("GPU-1f", "NVIDIA L4"),
        ("MIG-3a", "NVIDIA T4"),
    ],
)
def test_the_gpu_is_the_first_visible_one(
    visible: str | None, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(TOOL, encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert environment._nvidia() == (name, "595.71")
