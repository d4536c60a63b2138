"""``diff`` of two runs of verify: verdicts, errors, and what became worse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench.rows import MACHINE, passed, report, row
from vgg_deploy import stored
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.report.verdict_changes import verdict_changes, verdicts_table
from vgg_deploy.results import BENCH_FILE, VERIFY_FILE, Comparison, Figure, Verdict, VerifyReport


def judged(
    backend: str, share: float | None = 0.5, verdict: Verdict = "equivalent", **given: object
) -> Comparison:
    """A row whose nearest figure takes ``share`` of its limit."""
    figures = [Figure(name="max_abs", value=1e-5 * (share or 0), limit=None, ok=True)]
    if share is not None:
        figures.append(Figure(name="rel_l2", value=share * 1e-5, limit=1e-5, ok=share <= 1))
    made = Comparison(
        subject=row(backend, 10).subject, verdict=verdict, reason="", figures=tuple(figures)
    )
    return replace(made, **given)  # type: ignore[arg-type]


def run(rows: Sequence[Comparison], **given: object) -> VerifyReport:
    return replace(passed([]), rows=tuple(rows), **given)  # type: ignore[arg-type]


def saved(folder: Path, rows: Sequence[Comparison], **given: object) -> Path:
    stored.save(folder / VERIFY_FILE, run(rows, **given))
    return folder


def gone(backend: str) -> Comparison:
    return judged(backend, None, "skipped", reason="not installed")


BROKE = judged("a", None, "failed", reason="cannot open")
WRONG = judged("a", 2.0, "different", reason="rel_l2 is twice its limit")


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        (judged("a"), judged("a"), "same verdict"),
        (judged("a"), WRONG, "worse"),
        (judged("a"), BROKE, "worse"),
        (WRONG, judged("a"), "better"),
        (BROKE, judged("a"), "better"),
        (WRONG, BROKE, "still not equivalent"),
        (WRONG, WRONG, "still not equivalent"),
        (judged("a"), gone("a"), "not judged now"),
        (gone("a"), judged("a"), "new"),
        (gone("a"), BROKE, "new"),
    ],
)
def test_what_is_said_of_two_verdicts(old: Comparison, new: Comparison, word: str) -> None:
    (found,) = verdict_changes(run([old]), run([new]))
    assert found.word == word
    assert found.reason == new.reason
    table = verdicts_table([found])
    assert table.note.startswith(f"1 {word}.")
    assert word in table.rows[0].cells


def test_rows_of_one_run_alone_are_told_and_those_that_nobody_judged_are_not() -> None:
    found = verdict_changes(run([judged("a"), gone("c")]), run([judged("b"), gone("c")]))
    assert [(f.subject.backend, f.word) for f in found] == [("b", "new"), ("a", "gone")]


def test_errors_of_both_runs_stand_beside_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = saved(tmp_path / "old", [judged("a", 0.2)])
    newer = replace(MACHINE, versions={"onnxruntime": "1.32.0"})
    again = judged("a", 0.5)
    again = replace(again, subject=replace(again.subject, sha256="f" * 64))
    new = saved(tmp_path / "new", [again], environment=newer, options={"seed": "1"})
    assert main(["diff", str(old), str(new)]) == 0
    shown = capsys.readouterr().out
    for text in ("20.0 %", "50.0 %", "same verdict; the file is another one", "1.32.0", "seed"):
        assert text in shown
    assert main(["diff", str(old), str(new), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == []
    (one,) = told["verdicts"]
    assert (one["before"], one["now"], one["share_before"]) == ("equivalent", "equivalent", 0.2)
    assert one["max_abs_now"] == pytest.approx(5e-6)
    assert (one["says"], one["share_ratio"]) == ("same verdict", 2.5)
    assert told["changed"] == {"onnxruntime": ["1.31.1", "1.32.0"], "verify: seed": ["–", "1"]}


def test_a_worse_verdict_is_exit_7_whatever_else_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    timed = report([row("a", 10)])
    old, new = tmp_path / "old", saved(tmp_path / "new", [WRONG, judged("b")])
    saved(old, [judged("a"), judged("b")])
    for folder in (old, new):
        stored.save(folder / BENCH_FILE, timed)
    assert main(["diff", str(old), str(new), "--fail-if", "ratio>9"]) == 7
    said = capsys.readouterr()
    assert "1 of 2 verdicts became worse: a:model.fp32.onnx" in said.err
    assert "rel_l2 is twice its limit" in said.err
    assert "p50 of the new run over the old" in said.out
    assert main(["diff", str(new), str(old)]) == 0


def test_memory_that_ran_out_says_nothing_of_the_file(tmp_path: Path) -> None:
    old = saved(tmp_path / "old", [judged("a"), judged("b")])
    lacking = replace(BROKE, ran_out=True)
    assert main(["diff", str(old), str(saved(tmp_path / "one", [lacking, judged("b")]))]) == 6
    other = judged("b", None, "failed", reason="cannot open")
    assert main(["diff", str(old), str(saved(tmp_path / "both", [lacking, other]))]) == 7


@pytest.mark.parametrize(
    ("new", "code", "said"),
    [
        ([judged("a", 0.5)], 1, "a:model.fp32.onnx has 2.5"),
        ([judged("a", 0.2), judged("b", 0.9)], 0, ""),
        ([gone("a"), judged("c")], 8, "cannot be judged: not both runs have a share_ratio"),
        ([judged("c", 0.1)], 8, "c:model.fp32.onnx cannot be judged: the old share is 0"),
    ],
)
def test_a_condition_on_the_share_of_the_limit(
    new: list[Comparison], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {one.subject.backend for one in new}
    before = [one for one in (judged("a", 0.2), judged("c", 0)) if one.subject.backend in told]
    words = [str(saved(tmp_path / "old", before)), str(saved(tmp_path / "new", new))]
    assert main(["diff", *words, "--fail-if", "share_ratio>1.5"]) == code
    assert said in capsys.readouterr().err


def test_what_one_run_alone_holds_is_said_and_no_condition_on_it_passes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = saved(tmp_path / "old", [judged("a")]), tmp_path / "new"
    for folder in (old, new):
        stored.save(folder / BENCH_FILE, report([row("a", 10)]))
    assert main(["diff", str(old), str(new)]) == 0
    assert f"verify is not compared: {new} holds no results of verify" in capsys.readouterr().err
    assert main(["diff", str(old), str(new), "--fail-if", "share_ratio>1.5"]) == 8
    assert "not both runs hold results of verify" in capsys.readouterr().err
    verdicts = str(old / VERIFY_FILE)
    assert main(["diff", verdicts, verdicts, "--fail-if", "ratio>1.5"]) == 8
    assert main(["diff", verdicts, str(new)]) == 3
    assert "nothing to compare" in capsys.readouterr().err
    assert main(["diff", str(tmp_path), str(new)]) == 3
    assert "no results of bench or verify" in capsys.readouterr().err


def test_verdicts_of_two_machines_are_compared_and_their_timings_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(MACHINE, cpu="another")
    old = saved(tmp_path / "old", [judged("a")])
    new = saved(tmp_path / "new", [judged("a")], environment=other)
    stored.save(old / BENCH_FILE, report([row("a", 10)]))
    stored.save(new / BENCH_FILE, report([row("a", 10)], other))
    assert main(["diff", str(old), str(new)]) == 3
    assert VERIFY_FILE in capsys.readouterr().err
    assert main(["diff", str(old / VERIFY_FILE), str(new / VERIFY_FILE)]) == 0
    assert "another" in capsys.readouterr().out


def test_runs_of_verify_itself(
    two_formats: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stored results alone, without the bundle's files, are enough for the old run."""
    words = ["-b", "ort-cpu", "--images", "8", "--data", "sample", "--no-accuracy"]
    assert main(["verify", str(two_formats.root), *words]) == 0
    shutil.copytree(two_formats.root / "results", tmp_path / "before" / "results")
    assert main(["verify", str(two_formats.root), *words]) == 0
    capsys.readouterr()
    before = str(tmp_path / "before")
    assert main(["diff", before, str(two_formats.root), "--fail-if", "share_ratio>1"]) == 0
    assert "1 same verdict" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new"),
    [([gone("a")], [gone("a")]), ([judged("a")], [judged("b")]), ([judged("a")], [gone("a")])],
)
def test_verdicts_without_a_cell_in_common_are_no_comparison(
    old: list[Comparison],
    new: list[Comparison],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [str(saved(tmp_path / "old", old)), str(saved(tmp_path / "new", new))]
    assert main(["diff", *words]) == 8
    assert "no cell in common" in capsys.readouterr().err


def test_a_condition_that_meets_new_cells_alone_is_not_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skipped = replace(row("a", 10), status="skipped", reason="not installed", samples_ns=())
    old, new = saved(tmp_path / "old", [judged("a")]), saved(tmp_path / "new", [judged("a")])
    stored.save(old / BENCH_FILE, report([skipped]))
    stored.save(new / BENCH_FILE, report([row("a", 10)]))
    assert main(["diff", str(old), str(new)]) == 0
    assert main(["diff", str(old), str(new), "--fail-if", "ratio>1.05"]) == 8
    assert "ratio>1.05 cannot be told" in capsys.readouterr().err
