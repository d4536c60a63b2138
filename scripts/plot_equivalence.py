"""Draw docs/equivalence.svg: errors of right results by precision, and of planted faults.

    python scripts/plot_equivalence.py

Reads docs/results/tolerance_calibration.json and docs/results/faults.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vgg_deploy.verify.tolerance import TOLERANCES

DOCS = Path(__file__).resolve().parents[1] / "docs"
PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
# Okabe and Ito, "Color universal design" (2008)
EAGER, RUNTIME, FAULT, LIMIT = "#0072B2", "#E69F00", "#D55E00", "#333333"
FIXED = 1e-5


def main() -> None:
    """Draw and save."""
    parser = argparse.ArgumentParser(description="The plot of docs/equivalence.md.")
    parser.add_argument("--out", type=Path, default=DOCS / "equivalence.svg")
    args = parser.parse_args()
    calibration = json.loads((DOCS / "results/tolerance_calibration.json").read_text())
    faults = json.loads((DOCS / "results/faults.json").read_text())
    draw(calibration, faults, args.out)


def draw(calibration: dict[str, Any], faults: dict[str, Any], out: Path) -> None:
    """One strip per precision, and one for the faults in fp32 files."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "vgg-deploy", "font.size": 10, "svg.fonttype": "none"})
    figure, axes = plt.subplots(figsize=(8.6, 5.2), layout="constrained")
    for index, precision in enumerate(PRECISIONS):
        _strip(axes, index - 0.17, list(_errors(calibration, precision, own=True)), EAGER)
        _strip(axes, index + 0.17, list(_errors(calibration, precision, own=False)), RUNTIME)
        floor = TOLERANCES[precision].rel_l2_floor  # type: ignore[index]
        axes.plot([index - 0.42, index + 0.42], [floor, floor], color=LIMIT, linewidth=2)
    planted = [f["rel_l2"] for f in faults["details"] if f["rel_l2"] and f["group"] != "precision"]
    _strip(axes, len(PRECISIONS), planted, FAULT)
    axes.axhline(FIXED, color=LIMIT, linestyle=(0, (4, 3)), linewidth=1)
    axes.text(1.5, FIXED * 1.15, "the fixed 1e-5", ha="center", va="bottom")
    axes.set_yscale("log")
    axes.set_xlim(-0.6, 4.6)
    axes.set_xticks(range(5), [*PRECISIONS, "faults\nin fp32 files"])
    axes.set_ylabel("relative L2 error against float64")
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    _legend(axes)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None, dpi=110)


def _errors(calibration: dict[str, Any], precision: str, *, own: bool) -> Iterator[float]:
    """Error of each image: of torch eager, or of every other way to run that precision."""
    for network in calibration["networks"]:
        for label, run in network["errors"].items():
            if label.startswith(precision) and label.endswith("eager") == own:
                yield from run["per_image"]


def _strip(axes: Any, x: float, values: list[float], colour: str) -> None:
    """Dots side by side around ``x``, spread by rank so that none hides."""
    ordered = sorted(value for value in values if value > 0)
    places = [x + ((i * 7) % 11 - 5) / 5 * 0.12 for i in range(len(ordered))]
    axes.plot(places, ordered, "o", markersize=3, color=colour, alpha=0.55, mew=0)


def _legend(axes: Any) -> None:
    from matplotlib.lines import Line2D

    def dot(colour: str, label: str) -> Line2D:
        return Line2D([], [], marker="o", linestyle="", color=colour, markersize=5, label=label)

    handles = [
        dot(EAGER, "torch eager, one dot per image and network"),
        dot(RUNTIME, "ONNX Runtime, OpenVINO, torch’s own kernels"),
        dot(FAULT, "planted faults, worst image"),
        Line2D([], [], color=LIMIT, linewidth=2, label="floor: below it, rounding"),
    ]
    axes.legend(handles=handles, loc="upper left", frameon=False)


if __name__ == "__main__":
    main()
