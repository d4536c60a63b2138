"""Two stored runs: what is told, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests.bench.rows import MACHINE, passed, report, row
from vgg_deploy import stored
from vgg_deploy.bench.diff import changed_environment, differences
from vgg_deploy.errors import (
    DigestMismatch,
    LimitNotMet,
    MeasurementNotValid,
    RefusedInput,
    VggDeployError,
)
from vgg_deploy.gates import parse_gate
from vgg_deploy.pipeline.diff import DIFF_FIGURES, Diff, diff_error, diff_runs, told
from vgg_deploy.report.ratio_tables import diff_table, plain_table
from vgg_deploy.results import (
    BENCH_FILE,
    VERIFY_FILE,
    BenchReport,
    Block,
    Contest,
    Status,
    Timing,
)


def saved(path: Path, made: BenchReport) -> Path:
    stored.save(path, made)
    return path


def words(old: BenchReport, new: BenchReport) -> list[str]:
    return [found.word for found in differences(old, new)]


def test_what_changed_by_much_is_told_and_what_did_not_is_not() -> None:
    old = report([row("a", 10), row("b", 10), row("c", 10)])
    new = report([row("a", 13), row("b", 7, seed=1), row("c", 10.1, seed=2)])
    assert words(old, new) == ["slower", "faster", "no difference shown"]
    ratio = differences(old, new)[0].ratio
    assert ratio is not None
    assert ratio.ratio == pytest.approx(1.3, rel=0.01)
    assert ratio.low < 1.3 < ratio.high


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threads": 4}, "threads 2 and 4"),
        ({"clock": "cuda-events"}, "clock host and cuda-events"),
        ({"modes": {"tf32": "on"}}, "tf32 off and on"),
        ({"modes": {"transfers": "on"}}, "transfers off and on"),
    ],
)
def test_unlike_cells_are_refused(change: dict[str, Any], said: str) -> None:
    old = row("a", 10, threads=2)
    (found,) = differences(report([old]), report([replace(old, **change)]))
    assert found.ratio is None
    assert found.reason == f"unlike: {said}"
    assert found.word == "not told"


def test_a_cuda_graph_that_is_gone_is_told_beside_the_ratio(tmp_path: Path) -> None:
    graph = row("a", 10, modes={"cuda_graph": "on", "tf32": "off"})
    old = saved(tmp_path / "old.json", report([graph, row("b", 10)]))
    plain = replace(graph, modes={"cuda_graph": "off", "tf32": "off"})
    new = saved(tmp_path / "new.json", report([plain, row("b", 10)]))
    found = diff_runs(old, new)
    assert found.changed == {"cuda_graph of a:model.fp32.onnx at batch 1": ("on", "off")}
    assert found.rows[0].ratio is not None
    assert diff_runs(old, old).changed == {}


def test_precision_and_batch_never_meet() -> None:
    found = differences(report([row("a", 10)]), report([row("a", 10, precision="int8")]))
    assert [f.reason for f in found] == [
        "measured in the new run only",
        "measured in the old run only",
    ]
    found = differences(report([row("a", 10)]), report([row("a", 10, batch=8)]))
    assert all(f.ratio is None for f in found)


def test_a_marked_timing_is_not_told_and_says_why() -> None:
    (found,) = differences(
        report([row("a", 10)]), report([row("a", 13, marks=("noisy: quartiles ±40 %",))])
    )
    assert found.word == "not told"
    assert found.reason == "new run: noisy: quartiles ±40 %"


def test_a_file_that_was_made_again_is_said() -> None:
    new = row("a", 10)
    new = replace(new, subject=replace(new.subject, sha256="f" * 64))
    (found,) = differences(report([row("a", 10)]), report([new]))
    assert not found.same_file


def test_versions_may_differ_and_are_listed() -> None:
    newer = replace(MACHINE, versions={"onnxruntime": "1.32.0"})
    changed = changed_environment(MACHINE, newer)
    assert changed == {"onnxruntime": ("1.31.1", "1.32.0")}


@pytest.mark.parametrize("change", [{"cpu": "another"}, {"cores": 64}, {"gpu": "H100"}])
def test_other_hardware_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    old = saved(tmp_path / "old.json", report([row("a", 10)]))
    new = saved(tmp_path / "new.json", report([row("a", 10)], replace(MACHINE, **change)))
    with pytest.raises(RefusedInput, match=next(iter(change))):
        diff_runs(old, new)


def test_nothing_in_common_is_no_measurement(tmp_path: Path) -> None:
    old = saved(tmp_path / "old.json", report([row("a", 10)]))
    new = saved(tmp_path / "new.json", report([row("b", 10)]))
    with pytest.raises(MeasurementNotValid, match="no cell in common"):
        diff_runs(old, new)


def test_a_comparison_in_turns_is_no_run(tmp_path: Path) -> None:
    one, two = (row(name, 10).subject for name in "ab")
    blocks = tuple(Block(order=(0, 1), medians_ns=(1e6, 1e6)) for _ in range(5))
    turns = Contest(subjects=(one, two), batch=1, runs_per_turn=(3, 3), blocks=blocks)
    compared = saved(tmp_path / "compare.json", report([], contests=(turns,)))
    with pytest.raises(RefusedInput, match="comparisons in turns") as refused:
        diff_runs(compared, saved(tmp_path / "new.json", report([row("a", 10)])))
    assert BENCH_FILE in refused.value.remedy


def test_a_bundle_stands_for_its_stored_run(tmp_path: Path) -> None:
    bundle, old = tmp_path / "bundle", row("a", 10)
    saved(bundle / BENCH_FILE, report([old]))
    new = saved(tmp_path / "new.json", report([row("a", 13)]))
    assert diff_runs(bundle, new).rows[0].reason.startswith("old run: not verified")
    stored.save(bundle / VERIFY_FILE, passed([old]))
    assert diff_runs(bundle, new).rows[0].word == "slower"
    (one,) = cast(list[dict[str, object]], told(diff_runs(bundle, new))["rows"])
    assert one["says"] == "slower"


def test_what_verify_once_said_is_not_held_against_a_run(tmp_path: Path) -> None:
    """Older files hold the verdict of their day; of a file alone nothing newer is known."""
    said = row("a", 10, marks=("not verified: run vgg-deploy verify first",))
    old = saved(tmp_path / "old.json", report([said]))
    new = saved(tmp_path / "new.json", report([row("a", 13)]))
    assert diff_runs(old, new).rows[0].word == "slower"


def test_conditions_on_the_ratio(tmp_path: Path) -> None:
    old = saved(tmp_path / "old.json", report([row("a", 10)]))
    new = saved(tmp_path / "new.json", report([row("a", 14)]))
    found = diff_runs(old, new)
    assert diff_error(found, ()) is None
    assert diff_error(found, [parse_gate("ratio_low>1.5", DIFF_FIGURES)]) is None
    assert isinstance(diff_error(found, [parse_gate("ratio_low>1.2", DIFF_FIGURES)]), LimitNotMet)
    marked = replace(found, rows=(replace(found.rows[0], reason="new run: noisy"),))
    error = diff_error(marked, [parse_gate("ratio>1.2", DIFF_FIGURES)])
    assert isinstance(error, MeasurementNotValid)


def test_other_figures_are_plain_ratios(tmp_path: Path) -> None:
    before = row("a", 10, n=700, load_s=1.0, first_s=0.2, peak_memory_bytes=100)
    after = replace(
        row("a", 10, n=700, seed=1), load_s=3.0, peak_memory_bytes=150, marks=("noisy",)
    )
    after = replace(after, subject=replace(after.subject, size_bytes=2 * before.subject.size_bytes))
    old = saved(tmp_path / "old.json", report([before]))
    found = diff_runs(old, saved(tmp_path / "new.json", report([after])))
    (told,) = found.rows
    assert told.plain.pop("p99_ratio") == pytest.approx(1, rel=0.01)  # type: ignore[attr-defined]
    assert told.plain == {"load_ratio": 3.0, "peak_memory_ratio": 1.5, "file_ratio": 2.0}
    assert plain_table(found.rows).rows[0].cells[-3:] == ("3.000×", "1.500×", "2.000×")

    def error(*conditions: str, of: Diff = found) -> VggDeployError | None:
        return diff_error(of, [parse_gate(text, DIFF_FIGURES) for text in conditions])

    assert isinstance(error("file_ratio>1.9"), LimitNotMet)  # noise is nothing to a size
    assert error("file_ratio>2", "peak_memory_ratio>1.5") is None
    assert isinstance(error("load_ratio>2"), MeasurementNotValid)
    calm = diff_runs(old, saved(tmp_path / "calm.json", report([replace(after, marks=())])))
    assert isinstance(error("load_ratio>2", of=calm), LimitNotMet)
    unknown = error("first_ratio>2", of=calm)
    assert isinstance(unknown, MeasurementNotValid)
    assert "not both runs have a first_ratio" in unknown.cause


def test_cells_that_were_added_or_left_out(tmp_path: Path) -> None:
    """A backend that is new is no change; one that is gone cannot be judged."""
    one, two = report([row("a", 10)]), report([row("a", 10), row("b", 3)])
    old, new = saved(tmp_path / "one.json", one), saved(tmp_path / "two.json", two)
    gates = [parse_gate("ratio_low>1.05", DIFF_FIGURES)]
    assert diff_error(diff_runs(old, new), gates) is None
    gone = diff_error(diff_runs(new, old), gates)
    assert isinstance(gone, MeasurementNotValid)
    assert "measured in the old run only" in gone.cause
    assert gone.remedy.startswith("bench it in the new run")


def unmeasured(status: Status, reason: str, batch: int = 1) -> Timing:
    return replace(row("a", 10), batch=batch, status=status, reason=reason, samples_ns=())


def test_a_cell_that_broke_is_told_with_its_reason(tmp_path: Path) -> None:
    kept, broke = row("b", 10), unmeasured("failed", "out of memory")
    old = saved(tmp_path / "old.json", report([row("a", 10), kept]))
    new = saved(tmp_path / "new.json", report([broke, kept]))
    found = diff_runs(old, new)
    assert [r.word for r in found.rows] == ["failed", "no difference shown"]
    assert found.rows[0].reason == "failed in the new run: out of memory"
    assert diff_table(found.rows).rows[0].status == "failed"
    gates = [parse_gate("ratio_low>1.05", DIFF_FIGURES)]
    error = diff_error(found, gates)
    assert isinstance(error, MeasurementNotValid)
    assert error.remedy.startswith("repair")
    mended = diff_runs(new, old)
    assert mended.rows[0].reason == "failed in the old run: out of memory"
    assert diff_error(mended, gates) is None


def test_what_failed_in_both_runs_is_listed_and_what_was_skipped_in_both_is_not() -> None:
    broke, absent = unmeasured("failed", "out of memory"), unmeasured("skipped", "no GPU", 0)
    (found,) = differences(report([broke]), report([replace(broke, reason="no kernel")]))
    assert found.word == "failed"
    assert found.reason == "failed in the old run: out of memory; failed in the new run: no kernel"
    assert differences(report([absent]), report([absent])) == ()


def test_a_cell_that_was_skipped_as_a_whole_says_so_for_every_batch() -> None:
    old = report([row("a", 10), row("a", 10, batch=8)])
    found = differences(old, report([unmeasured("skipped", "no GPU", 0)]))
    assert [(f.batch, f.reason) for f in found] == [
        (1, "skipped in the new run: no GPU"),
        (8, "skipped in the new run: no GPU"),
    ]


def test_unchanged_runs_of_many_cells_report_no_change() -> None:
    """22 cells whose medians differ by the 3 % that runs differ by: with 95 % for each cell two of
    three runs would show a change."""
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(40):
        olds, news = (
            report([
                row("a", 10 * np.exp(0.03 * random.standard_normal()), batch=i + 1, n=40, seed=i)
                for i in range(22)
            ])
            for _ in range(2)
        )  # fmt: skip
        alarms += any(word != "no difference shown" for word in words(olds, news))
    assert alarms <= 6  # 2 of 40 are expected, and more than 6 in one of 300
    single = differences(report([row("a", 10)]), report([row("a", 10.1)]))[0].ratio
    joint = differences(olds, news)[0].ratio
    assert single is not None
    assert joint is not None
    assert joint.high / joint.low > single.high / single.low


def test_edited_newer_and_foreign_files(tmp_path: Path) -> None:
    good = saved(tmp_path / "good.json", report([row("a", 10)]))
    edited = tmp_path / "edited.json"
    edited.write_text(good.read_text().replace('"batch": 1', '"batch": 2'))
    with pytest.raises(DigestMismatch):
        diff_runs(good, edited)
    newer = saved(tmp_path / "newer.json", report([row("a", 10)], schema_version=99))
    with pytest.raises(RefusedInput, match="schema version 99"):
        diff_runs(good, newer)
    (tmp_path / "foreign.json").write_text("[1, 2]")
    with pytest.raises(RefusedInput):
        diff_runs(good, tmp_path / "foreign.json")
    with pytest.raises(RefusedInput):
        diff_runs(good, tmp_path / "absent.json")
