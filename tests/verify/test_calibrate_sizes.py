"""The script behind docs/results/sizes.json, on one network; and the limit that rests on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.calibrate_sizes import RANDOM, TRAINED, main, summary
from vgg_deploy.verify.tolerance import SIZES_RATIO

STORED = Path(__file__).parents[2] / "docs/results/sizes.json"


def test_a_wrong_resize_shows_beside_a_right_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sizes.json"
    main(["--network", "1x16-1x32, 32 px", "--images", "16", "-o", str(out)])
    ((network,), told) = (json.loads(out.read_text())[key] for key in ("networks", "summary"))
    rows = {(row["resize"], row["backend"]): row["ratio"] for row in network["rows"]}
    for backend in ("ort-cpu", "openvino"):
        assert rows["right", backend] < SIZES_RATIO < rows["without antialias", backend]
    assert (told["networks"], told["found"], told["holds"]) == (1, 1, True)
    assert '"found": 1' in capsys.readouterr().out


def test_summary() -> None:
    def network(right: float, *wrong: float) -> dict[str, object]:
        rows = [{"resize": "right", "ratio": right}]
        return {"rows": rows + [{"resize": "without antialias", "ratio": r} for r in wrong]}

    told = summary([network(1.0, SIZES_RATIO + 1, SIZES_RATIO + 2), network(2.0, 9.0, 1.5)])
    assert told["ratio"] == {"right": [1.0, 2.0], "without antialias": [1.5, 9.0]}
    assert (told["found"], told["holds"]) == (1, True)  # one backend alone is not enough
    assert not summary([network(SIZES_RATIO + 1, 9.0)])["holds"]


def test_the_stored_figures_are_of_this_limit_and_of_every_network() -> None:
    stored = json.loads(STORED.read_text("utf-8"))
    assert [n["network"] for n in stored["networks"]] == [*RANDOM, *TRAINED]
    again = summary(stored["networks"])
    assert again == stored["summary"]
    assert again["holds"]
