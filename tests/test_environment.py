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
if chosen and chosen not in rows:
    sys.exit(6)
for name in [rows[chosen]] if chosen else list(rows.values())[:2]:
    print(name + ", 595.71")
"""


@pytest.mark.parametrize(
    ("visible", "order", "name"),
    [
        (None, "PCI_BUS_ID", "NVIDIA T4"),
        ("", "PCI_BUS_ID", "NVIDIA T4"),
        ("0,1", "PCI_BUS_ID", "NVIDIA T4"),
        ("1", "PCI_BUS_ID", "NVIDIA L4"),
        ("1,0", "PCI_BUS_ID", "NVIDIA L4"),
        ("1", None, "NVIDIA T4"),  # CUDA's own order is not the tool's
        ("GPU-1f", None, "NVIDIA L4"),
        ("GPU-99", None, "NVIDIA T4"),  # unknown to the tool
        ("MIG-3a", None, "NVIDIA T4"),
    ],
)
def test_the_gpu_is_the_first_visible_one(
    visible: str | None,
    order: str | None,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(TOOL, encoding="utf-8")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable, value in (("CUDA_VISIBLE_DEVICES", visible), ("CUDA_DEVICE_ORDER", order)):
        monkeypatch.delenv(variable, raising=False)
        if value is not None:
            monkeypatch.setenv(variable, value)
    assert environment._nvidia() == (name, "595.71")


def test_without_the_tool_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment._nvidia() == (None, None)
