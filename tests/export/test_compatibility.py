"""The compatibility table: its light part runs here, and the page is what its results say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.compat.cases import Form, all_forms, colour_bundle
from scripts.compat.environments import RUNTIMES, NotHere, Runtime, capi_program, chromium
from scripts.compat.page import page, passing
from scripts.compatibility import Cell, judge, main, run_form
from tests.export.networks import lively_bundle, named

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "docs/results/compatibility.json").read_text(encoding="utf-8"))
LIGHT = [r for r in RUNTIMES if r.light or r.kind == "capi"]


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> list[Form]:
    root = tmp_path_factory.mktemp("forms")
    card = replace(named("1x4-1x8-2x8", channels=1), dataset="sample")
    bundle = lively_bundle(root / "plain", card)
    return all_forms(bundle, colour_bundle(root / "colour"), large=False)


@pytest.mark.parametrize("runtime", LIGHT, ids=lambda runtime: runtime.name)
def test_runtimes_of_this_environment(forms: list[Form], tmp_path: Path, runtime: Runtime) -> None:
    cells = {form.name: run_form(runtime, form, tmp_path) for form in forms[:3]}
    assert list(cells) == ["plain", "embedded", "embedded, centre crop"]
    for cell in cells.values():
        assert cell.status == "passes", cell
        assert cell.version
        assert cell.max_error is not None
        assert 0 < cell.max_error < 1e-5
        assert cell.top1_agree == cell.top1_total == 107 - 1  # without the 12 megapixels


def test_a_wrong_answer_a_refusal_and_a_crash_are_told_apart(forms: list[Form]) -> None:
    empty = Cell(runtime="r", version="", form="plain", status="skipped")
    right = {name: want.tolist() for name, want in forms[0].want.items()}
    out = {"version": "1", "loads": True, "error": "", "logits": right}
    assert judge(empty, out, forms[0]).status == "passes"
    wrong = {name: (np.array(rows) * 1.01).tolist() for name, rows in right.items()}
    assert judge(empty, {**out, "logits": wrong}, forms[0]).status == "differs"
    nan = {name: (np.array(rows) * np.nan).tolist() for name, rows in right.items()}
    assert judge(empty, {**out, "logits": nan}, forms[0]).status == "differs"
    refused = judge(empty, {"loads": False, "error": "no such operator"}, forms[0])
    assert (refused.status, refused.reason) == ("refused", "no such operator")


@pytest.mark.parametrize("words", [["--light"], ["--small"], ["--runtime", "OpenVINO"]])
def test_a_part_does_not_replace_the_result(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "say with -o where to" in capsys.readouterr().err


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotHere, match="chromium"):
        chromium()
    monkeypatch.setenv("ORT_HEADERS", str(tmp_path))
    with pytest.raises(NotHere, match=r"onnxruntime_c_api\.h"):
        capi_program(tmp_path)


def test_the_page_is_made_from_the_results() -> None:
    assert (ROOT / "docs/compatibility.md").read_text(encoding="utf-8") == page(STORED)


def test_at_least_nine_runtimes_pass_the_embedded_form() -> None:
    for form in ("embedded", "embedded, centre crop"):
        assert len(passing(STORED, form)) >= 9
        built = [c for c in STORED["cells"] if c["form"] == form and c["status"] == "builds"]
        assert [c["runtime"] for c in built] == ["TensorRT-RTX"]
    assert STORED["images"]["12 megapixels"][1:3] == [3000, 4000]
