"""The script behind docs/results/embedded_cost.json, on a toy; and what its result says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.embedded_cost import LIMIT, main


def test_both_ways_give_the_same_answer_and_a_ratio(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cost.json"
    main(["--arch", "1x4-1x8", "--size", "32", "--blocks", "5", "-o", str(out)])
    found = json.loads(out.read_text())
    assert found["largest_difference_of_a_probability"] < 1e-5
    assert set(found["median_ms"]) == {"numpy", "embedded"}
    assert found["ratio"]["low"] < found["ratio"]["ratio"] < found["ratio"]["high"]
    assert "ratio" in capsys.readouterr().out


def test_a_toy_does_not_replace_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--arch", "1x4-1x8", "--size", "32", "--blocks", "5"])
    assert caught.value.code == 2
    assert "say with -o where to" in capsys.readouterr().err


def test_the_stored_result_is_within_the_limit() -> None:
    path = Path(__file__).parents[2] / "docs/results/embedded_cost.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    assert (found["arch"], found["size"], found["image"]) == ("vgg16", 224, [480, 640])
    assert found["ratio"]["high"] <= LIMIT
