from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.report.samples import bench_report, replaced, verify_report
from vgg_deploy import stored
from vgg_deploy.bundle import Bundle
from vgg_deploy.report.findings import Findings, gather, read_metrics, summarise
from vgg_deploy.report.highlights import highlights
from vgg_deploy.report.html import page_of
from vgg_deploy.report.model_tables import blocks_table, model_table
from vgg_deploy.report.plain import markdown_of
from vgg_deploy.report.standing import NOT_VERIFIED
from vgg_deploy.results import BENCH_FILE, TrippedGate, Verdict
from vgg_deploy.spec import ModelSpec


def only(findings: Findings, *verdicts: Verdict) -> Findings:
    assert findings.verify
    rows = tuple(row for row in findings.verify.rows if row.verdict in verdicts)
    return replace(findings, verify=replace(findings.verify, rows=rows))


@pytest.mark.parametrize(
    ("verdicts", "status", "word"),
    [
        (("equivalent", "different", "failed", "skipped"), "bad", "Not equivalent"),
        (("equivalent", "failed", "skipped"), "failed", "Not proven equivalent"),
        (("failed",), "failed", "Not proven equivalent"),
        (("equivalent", "skipped"), "warn", "Equivalent as far as verified"),
        (("skipped",), "warn", "Nothing verified"),
        ((), "warn", "Nothing verified"),
    ],
)
def test_the_word_on_top(
    sample: Bundle, verdicts: tuple[Verdict, ...], status: str, word: str
) -> None:
    summary = summarise(only(gather(sample), *verdicts))
    assert (summary.status, summary.word) == (status, word)


def test_equivalent_needs_every_file(sample: Bundle) -> None:
    findings = only(gather(sample), "equivalent")
    proven = {s.artifact for s in findings.equivalent}
    kept = {path: sha for path, sha in findings.current.items() if path in proven}
    summary = summarise(replace(findings, current=kept))
    assert (summary.status, summary.word, summary.remarks) == ("ok", "Equivalent", ())
    summary = summarise(findings)
    assert summary.remarks == ("Not proven equivalent: model.fp32.export.pt2, model.fp16.onnx.",)


def test_a_condition_that_holds_is_said_and_takes_the_word_away(sample: Bundle) -> None:
    findings = only(gather(sample), "equivalent")
    assert findings.verify
    row = findings.comparisons[0]
    stale = TrippedGate(gate="top1>50", subject="gone:model.onnx", value=88.0)
    held = TrippedGate(gate="top1>50", subject=row.subject.id, value=88.25)
    verify = replace(findings.verify, gates=("top1>50",), tripped=(held, stale))
    gated = replace(findings, verify=verify)
    summary = summarise(gated)
    assert summary.status == "warn"
    assert summary.word == "Equivalent, but not within your conditions"
    assert summary.remarks[0] == f"The condition top1>50 holds for {row.subject.id}: 88.25."
    assert "gone" not in " ".join(summary.remarks)
    assert "The condition top1&gt;50 holds" in page_of(gated)
    assert "The condition top1>50 holds" in markdown_of(gated)
    bad = replace(verify, rows=gather(sample).verify.rows)  # type: ignore[union-attr]
    assert summarise(replace(findings, verify=bad)).word == "Not equivalent"


def test_a_file_that_does_not_hold_takes_the_word_away(sample: Bundle) -> None:
    (sample.root / "model.fp32.onnx").unlink()
    summary = summarise(only(gather(sample), "equivalent"))
    assert summary.word == "Not proven equivalent"
    assert summary.remarks[0] == "model.fp32.onnx is missing."


def test_a_file_that_does_not_hold_makes_no_headline(sample: Bundle) -> None:
    """All of ONNX is gone: the fastest that is proven is another format."""
    (sample.root / "model.fp32.onnx").write_bytes(b"short")
    findings = gather(sample)
    assert "model.fp32.onnx" not in {s.artifact for s in findings.equivalent}
    found = {h.name: h.detail for h in highlights(findings)}
    assert not any("model.fp32.onnx" in detail for detail in found.values()), found
    assert found["Fastest, proven"].startswith("torch-compile")


def test_a_file_verified_after_it_was_timed_is_both(sample: Bundle) -> None:
    marked = tuple(replace(row, marks=(NOT_VERIFIED,)) for row in bench_report(sample).rows)
    stored.save(sample.root / BENCH_FILE, replace(bench_report(sample), rows=marked))
    found = {h.name: h for h in highlights(gather(sample))}
    assert found["Fastest, proven"].value == "2.60 ms"
    assert "not verified" not in markdown_of(gather(sample))


def test_a_verdict_of_other_versions_settles_nothing(sample: Bundle) -> None:
    bench = bench_report(sample)
    newer = {**bench.environment.versions, "onnxruntime": "1.32.0"}
    bench = replace(bench, environment=replace(bench.environment, versions=newer))
    stored.save(sample.root / BENCH_FILE, bench)
    text = markdown_of(gather(sample))
    said = "verified with other versions or on another machine: onnxruntime 1.31.1, not 1.32.0"
    assert text.count(said) == 3, "ort-cpu at three batch sizes, and nothing else"


def test_only_stale_results_verify_nothing(sample: Bundle) -> None:
    findings = gather(sample)
    assert findings.verify
    rows = tuple(
        replace(row, subject=replace(row.subject, sha256="f" * 64)) for row in findings.verify.rows
    )
    stale = replace(findings, verify=replace(findings.verify, rows=rows))
    summary = summarise(stale)
    assert summary.word == "Nothing verified"
    assert summary.counts == (("warn", "8 stale"),)
    assert highlights(stale) == ()


def test_highlights_come_from_what_is_proven(sample: Bundle) -> None:
    found = {h.name: h for h in highlights(gather(sample))}
    assert found["Accuracy"].value == "91.82 %"
    assert found["Fastest, proven"].value == "2.60 ms"
    assert found["Fastest, proven"].detail.startswith("openvino, model.fp32.onnx")
    assert found["Nearest its limit"].value == "17 % used"
    assert found["Smallest, proven"].detail == "model.fp32.onnx"


def test_a_noisy_measurement_makes_no_headline(sample: Bundle) -> None:
    findings = gather(sample)
    assert findings.bench
    rows = tuple(replace(row, marks=("noisy: quartiles ±90 %",)) for row in findings.bench.rows)
    noisy = replace(findings, bench=replace(findings.bench, rows=rows))
    found = {h.name: h for h in highlights(noisy)}
    assert found["Fastest, proven"].value == "not settled"
    assert "noisy: quartiles ±90 %" in found["Fastest, proven"].detail


def test_environments_are_told_apart_only_when_they_differ(sample: Bundle) -> None:
    findings = gather(sample)
    names = [name for name, _ in findings.environments]
    assert names == ["verify, bench and bench --compare"]
    report = verify_report(sample)
    other = replace(report, environment=replace(report.environment, cores=64))
    names = [name for name, _ in replace(findings, verify=other).environments]
    assert names == ["verify", "bench and bench --compare"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cpu": "Another CPU"}, "cpu Another CPU and Some CPU @ 2.6 GHz"),
        ({"cores": 64}, "cores 64 and 2"),
        ({"versions": {"onnxruntime": "1.30.0"}}, "onnxruntime 1.30.0, not 1.31.1"),
    ],
)
def test_a_comparison_that_was_made_elsewhere_says_so(
    sample: Bundle, change: dict[str, Any], said: str
) -> None:
    findings = gather(sample)
    assert findings.compared
    assert findings.contests[0].marks == ()
    here = findings.compared.environment
    versions = {**here.versions, **change.get("versions", {})}
    there = replace(here, **{**change, "versions": versions})
    moved = replace(findings, compared=replace(findings.compared, environment=there))
    (contest,) = moved.contests
    assert contest.marks == (f"not where the timings were made: {said}",)
    assert [name for name, _ in moved.environments] == ["verify and bench", "bench --compare"]
    assert f"not where the timings were made: {said}" in markdown_of(moved)


def asked(findings: Findings, **options: str) -> Findings:
    """Everything is equivalent and covered; verify was asked like this."""
    findings = only(findings, "equivalent")
    assert findings.verify
    proven = {s.artifact for s in findings.equivalent}
    current = {path: sha for path, sha in findings.current.items() if path in proven}
    return replace(findings, current=current, verify=replace(findings.verify, options=options))


def test_how_verify_was_asked_is_said_on_top(sample: Bundle) -> None:
    findings = gather(sample)
    assert summarise(asked(findings, images="32", seed="0")).remarks == ()
    loose = summarise(asked(findings, max_top1_drop="50"))
    assert loose.word == "Equivalent"
    assert "Up to 50 points of top-1 accuracy were allowed to be lost" in loose.remarks[0]
    few = summarise(asked(findings, backend="torch, openvino", format="onnx"))
    assert (few.status, few.word) == ("warn", "Equivalent as far as verified")
    assert few.remarks == (
        "Verify was asked for torch, openvino in onnx only; nothing else was looked at.",
    )
    one = summarise(asked(findings, precision="fp32"))
    assert one.word == "Equivalent as far as verified"
    assert one.remarks == ("Verify was asked for fp32 only; nothing else was looked at.",)


def test_accuracy_that_was_not_looked_at_is_said(sample: Bundle) -> None:
    """Older results do not hold the options; their rows say it all the same."""
    findings = asked(gather(sample), accuracy="off")
    assert findings.verify
    blind = tuple(replace(row, accuracy=None) for row in findings.verify.rows)
    none = replace(findings, verify=replace(findings.verify, rows=blind))
    assert summarise(none).remarks == ("Accuracy was not compared: --no-accuracy was given.",)
    some = replace(findings.verify, rows=(*blind[:1], *findings.verify.rows[1:]), options={})
    said = f"Accuracy was not compared for {blind[0].subject.id}."
    assert summarise(replace(findings, verify=some)).remarks == (said,)


def test_metrics_of_a_killed_run_are_read_up_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"epoch": 1}\n[1]\n\n{"epoch": 2, "lo')
    assert read_metrics(path) == ({"epoch": 1},)
    path.write_bytes(b'{"epoch": 1}\n' + b"[" * 100_000)
    assert read_metrics(path) == ({"epoch": 1},)
    assert read_metrics(tmp_path / "absent") == ()


def test_results_without_files_in_the_bundle_are_stale(sample: Bundle) -> None:
    before = gather(sample)
    after = gather(replaced(sample, "onnx"))
    assert len(before.equivalent) - len(after.equivalent) == 2


def test_the_model_tables_come_from_the_spec(sample: Bundle) -> None:
    values = {row.cells[0]: row.cells[1] for row in model_table(sample.card).rows}
    assert values["conv_arch"] == "(1, 64), (1, 128), (2, 256), (2, 512), (2, 512)"
    assert values["Preprocessing"].startswith("resize to 64 × 64")
    blocks = blocks_table(sample.card.spec)
    assert [row.cells[2] for row in blocks.rows] == ["16", "32", "64", "128", "128"]
    small = blocks_table(ModelSpec.named("vgg16_1x1"))
    assert [row.cells[1:3] for row in small.rows][-1] == ("2", "1")


@pytest.mark.parametrize("unfinished", [True, False])
def test_metrics_of_other_weights_are_not_shown(sample: Bundle, unfinished: bool) -> None:
    """As an interrupted ``train --replace`` leaves them."""
    weights, best = sample.path(sample.checkpoint), sample.root / "training" / "best.safetensors"
    assert gather(sample).metrics  # whoever has deleted the best epoch keeps the log
    kept = sample.root / "training" / "checkpoints" / "step-00000012"
    if unfinished:
        kept.mkdir(parents=True)
        assert not gather(sample).metrics
    best.write_bytes(weights.read_bytes())
    mine = gather(sample)
    assert (len(mine.metrics), mine.withheld) == (6, "")
    best.write_bytes(bytes(reversed(weights.read_bytes())))
    findings = gather(sample)
    said = "that would replace this checkpoint is unfinished" if unfinished else "of other weights"
    assert findings.metrics == ()
    for page in (page_of(findings), markdown_of(findings)):
        assert said in page
        assert "No training is on record" not in page
