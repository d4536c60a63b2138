"""Stored results: edited ones are told from measured ones, old ones are brought up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.samples import bench_report, compare_report, make_files, verify_report
from vgg_deploy import jsonio, stored
from vgg_deploy.cli import main
from vgg_deploy.errors import DigestMismatch, RefusedInput
from vgg_deploy.results import (
    BENCH_FILE,
    COMPARE_FILE,
    SCHEMA_VERSION,
    VERIFY_FILE,
    Accuracy,
    BenchReport,
    VerifyReport,
    wilson,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    bundle = make_files(tmp_path / "bundle")
    stored.save(bundle.root / VERIFY_FILE, verify_report(bundle))
    stored.save(bundle.root / BENCH_FILE, bench_report(bundle))
    stored.save(bundle.root / COMPARE_FILE, compare_report(bundle))
    return bundle.root


def test_what_was_saved_is_loaded(root: Path) -> None:
    report = stored.load(VerifyReport, root / VERIFY_FILE)
    stored.save(root / "again.json", report)
    assert stored.load(VerifyReport, root / "again.json") == report
    assert stored.load(BenchReport, root / BENCH_FILE).rows


def test_spacing_and_order_do_not_matter(root: Path) -> None:
    path = root / VERIFY_FILE
    payload = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(payload.items()))))
    assert stored.load(VerifyReport, path).rows


def older(text: str) -> str:
    return different_to_equivalent(text.replace('"schema_version": 2', '"schema_version": 1'))


def different_to_equivalent(text: str) -> str:
    return text.replace('"different"', '"equivalent"')


def one_digit(text: str) -> str:
    return text.replace('"correct": 9182', '"correct": 9183', 1)


@pytest.mark.parametrize("edit", [different_to_equivalent, one_digit, older])
def test_an_edited_report_is_exit_4(
    root: Path, edit: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / VERIFY_FILE
    before = path.read_text()
    after = edit(before)  # type: ignore[operator]
    assert after != before
    path.write_text(after)
    with pytest.raises(DigestMismatch, match="edited"):
        stored.load(VerifyReport, path)
    assert main(["report", str(root)]) == 4
    assert "edited after it was measured" in capsys.readouterr().err


def test_version_1_is_migrated(root: Path) -> None:
    payload = json.loads(jsonio.dumps(stored.load(VerifyReport, root / VERIFY_FILE)))
    payload["schema_version"] = 1
    for name in ("tolerances", "gates", "tripped"):
        del payload[name]
    for row in payload["rows"]:
        for name in ("worst", "hops", "location"):
            del row[name]
        for figure in row["figures"]:
            figure["name"] = figure["name"].replace("top1_drop", "accuracy_drop")
    path = root / "old.json"
    path.write_text(json.dumps(payload))
    report = stored.load(VerifyReport, path)
    assert report.schema_version == SCHEMA_VERSION
    assert any(row.figure("top1_drop") for row in report.rows)


def test_an_accuracy_of_no_images_is_none(root: Path) -> None:
    payload = json.loads(jsonio.dumps(stored.load(VerifyReport, root / VERIFY_FILE)))
    payload["schema_version"] = 1
    counted = [row for row in payload["rows"] if row["accuracy"]]
    counted[0]["accuracy"].update(correct=0, total=0)
    (root / VERIFY_FILE).write_text(json.dumps(payload))
    report = stored.load(VerifyReport, root / VERIFY_FILE)
    assert sum(row.accuracy is not None for row in report.rows) == len(counted) - 1
    assert main(["report", str(root)]) == 0


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema_version": 9}', '{"schema_version": 0}', "{}"]
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "verify.json"
    path.write_text(text)
    with pytest.raises(RefusedInput):
        stored.load(VerifyReport, path)


def test_what_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    """Around one depth a file can be read and not be written again, for its digest."""
    path = tmp_path / "bench.json"
    for depth in (*range(600, 1000), 100_000):
        nested = "[" * depth + "]" * depth
        path.write_text(f'{{"schema_version": 1, "rows": [], "made_at": {nested}}}')
        with pytest.raises(RefusedInput, match="does not hold results of bench"):
            stored.load(BenchReport, path)


def test_the_commands_refuse_what_is_nested_too_deeply(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / BENCH_FILE
    path.write_text("[" * 100_000)
    assert main(["report", str(root)]) == 3
    assert main(["diff", str(path), str(path)]) == 3
    assert "does not hold results of bench" in capsys.readouterr().err


def test_intervals() -> None:
    """Wilson's against those published by Newcombe, "Two-sided confidence intervals" (1998)."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson(29, 29) == pytest.approx((0.8830, 1), abs=5e-5)
    same = Accuracy(dataset="x", split="test", correct=900, total=1000)
    low, high = same.drop_interval
    assert low == -high
    assert 0.2 < high < 0.4  # about 3 / n: nothing was lost among 1,000
    worse = Accuracy(dataset="x", split="test", correct=880, total=1000, lost=22, won=2)
    assert worse.drop_interval[0] > 0.5


@pytest.mark.parametrize(
    "rows", [[1], 5, None, {"a": 1}, [{"figures": 5}], [{"figures": [[]]}], [{"figures": [{}]}]]
)
def test_a_malformed_report_of_version_1_is_refused(rows: object, tmp_path: Path) -> None:
    path = tmp_path / "v1.json"
    path.write_text(json.dumps({"schema_version": 1, "rows": rows}))
    with pytest.raises(RefusedInput, match=r"v1\.json does not hold"):
        stored.load(VerifyReport, path)


@pytest.mark.parametrize(
    ("file", "path", "value", "cause"),
    [
        (BENCH_FILE, "rows.0.batch", 0, "was measured without a batch or a time"),
        (BENCH_FILE, "rows.0.samples_ns", [], "was measured without a batch or a time"),
        (BENCH_FILE, "rows.0.samples_ns.0", -1, "should be at least 0"),
        (BENCH_FILE, "rows.0.samples_ns.0", 10**19, "should be at most 1e+18"),
        (BENCH_FILE, "rows.0.burst_runs", 5, "was measured without a batch or a time"),
        (BENCH_FILE, "ceilings.0.per_s", 0.0, "should be at least 1e-100"),
        (BENCH_FILE, "ceilings.0.per_s", float("nan"), "should be at most 1e+100"),
        (BENCH_FILE, "layers.0.batch", -1, "should be at least 1"),
        (BENCH_FILE, "layers.0.layers.0.samples_ns", [], "at least 1 item"),
        (COMPARE_FILE, "contests.0.blocks", [], "at least 5 items"),
        (COMPARE_FILE, "contests.0.blocks.0.medians_ns", [1.0], "a time of each in every block"),
        (COMPARE_FILE, "contests.0.blocks.0.round", 1, "2 rounds give no interval"),
        (COMPARE_FILE, "contests.0.blocks.0.medians_ns.0", 0, "should be at least 1e-100"),
        (VERIFY_FILE, "rows.0.figures.0.value", 1e308, "should be at most 1e+100"),
        (VERIFY_FILE, "rows.0.accuracy.total", 0, "should be at least 1"),
        (VERIFY_FILE, "rows.0.accuracy.correct", 10**6, "images were counted"),
        (VERIFY_FILE, "rows.0.accuracy.confusion", [[1, 2]], "is not square"),
    ],
)
def test_numbers_that_nothing_measures_are_refused_whatever_the_digest(
    root: Path,
    file: str,
    path: str,
    value: object,
    cause: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    payload = json.loads((root / file).read_text())
    payload.pop("digest")
    *steps, last = (int(step) if step.isdecimal() else step for step in path.split("."))
    place: Any = payload
    for step in steps:
        place = place[step]
    place[last] = value
    payload["digest"] = stored.digest_of(payload)
    (root / file).write_text(json.dumps(payload))
    assert main(["report", str(root)]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert cause in said
    assert "again" in said.partition("remedy: ")[2]
