"""Plans from a bundle's stored timings, and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.bench.rows import passed
from tests.heard import Heard
from vgg_deploy import stored
from vgg_deploy.artifact import Artifact, Target
from vgg_deploy.bench.capacity import CapacityOptions
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.environment import capture, now
from vgg_deploy.errors import RefusedInput
from vgg_deploy.pipeline.capacity import plan_capacity, service_times
from vgg_deploy.pipeline.verified import NOT_VERIFIED
from vgg_deploy.results import (
    BENCH_FILE,
    SCHEMA_VERSION,
    VERIFY_FILE,
    BenchReport,
    Subject,
    Timing,
    VerifyReport,
)

OPTIONS = CapacityOptions(qps=1000, p99_ms=50)


def timing(artifact: Artifact, backend: str, batch: int, ms: float, runs: int = 100) -> Timing:
    subject = Subject(
        artifact=str(artifact.path),
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        format=artifact.format,
        precision=artifact.precision,
        backend=backend,
        device="cpu",
    )
    samples = np.random.default_rng(0).normal(ms * 1e6, ms * 1e4, runs).astype(int)
    return Timing(
        subject=subject, batch=batch, status="measured", samples_ns=tuple(map(int, samples))
    )


def save(bundle: Bundle, *rows: Timing) -> Path:
    report = BenchReport(
        schema_version=SCHEMA_VERSION,
        made_at=now(),
        environment=capture(),
        key="tests",
        clock="host",
        options={},
        rows=rows,
    )
    path = bundle.root / BENCH_FILE
    stored.save(path, report)
    stored.save(bundle.root / VERIFY_FILE, passed(rows, capture()))
    return path


@pytest.fixture
def timed(tiny_bundle: Bundle) -> Bundle:
    artifact = tiny_bundle.checkpoint
    save(
        tiny_bundle,
        *(timing(artifact, "torch", batch, 4.0 * batch) for batch in (1, 8)),
        *(timing(artifact, "ort-cpu", batch, 2.0 + 0.5 * batch) for batch in (1, 8)),
        timing(artifact, "openvino", 1, 0.1, runs=10),
    )
    return tiny_bundle


def test_the_backend_that_needs_fewest_comes_first(timed: Bundle) -> None:
    report = plan_capacity(timed, OPTIONS)
    assert [c.subject.backend for c in report.candidates] == ["ort-cpu", "torch", "openvino"]
    fast, slow, few = (c.plan for c in report.candidates)
    assert few is None
    assert report.candidates[2].reason == "no usable timing at batch 1"
    assert report.candidates[2].marks == ("batch 1 is left out: 10 runs, it takes 64",)
    assert fast is not None
    assert slow is not None
    assert fast.load.replicas < slow.load.replicas
    assert slow.policy.max_batch == 1  # batches gain nothing there


def test_only_the_backends_asked_for(timed: Bundle) -> None:
    report = plan_capacity(timed, OPTIONS, ["torch"])
    assert [c.subject.backend for c in report.candidates] == ["torch"]
    with pytest.raises(RefusedInput, match="no timings of openvino"):
        plan_capacity(timed, OPTIONS, ["openvino"])


def test_a_backend_that_was_asked_for_and_never_timed_is_refused(timed: Bundle) -> None:
    with pytest.raises(RefusedInput, match="no timings of aoti at batch 1") as refused:
        plan_capacity(timed, OPTIONS, ["ort-cpu", "aoti"])
    assert "-b aoti --batch 1" in refused.value.remedy


def test_the_first_plan_alone_tells_of_other_loads(timed: Bundle) -> None:
    fast, slow, _ = (c.plan for c in plan_capacity(timed, OPTIONS).candidates)
    assert fast is not None
    assert slow is not None
    assert fast.by_load
    assert fast.by_limit
    assert slow.by_load == slow.by_limit == ()


def test_progress_is_told_for_each_file(timed: Bundle) -> None:
    watch = Heard()
    plan_capacity(timed, OPTIONS, watch=watch)
    found = [(step.what, step.done, step.total) for step in watch.steps]
    assert found == [("check the files", 1, 1), ("plan", 4, 4)]  # three, and other loads


def test_the_nearest_is_named_when_nothing_fits(timed: Bundle) -> None:
    artifact = timed.checkpoint
    save(timed, *(timing(artifact, name, 1, ms) for name, ms in (("torch", 90.0), ("aoti", 60.0))))
    with pytest.raises(RefusedInput, match=r"^aoti:.*has a p99 of 6\d"):
        plan_capacity(timed, OPTIONS)


def refuse(bundle: Bundle, backend: str) -> None:
    """What verify stores when it found that backend's file different."""
    report = stored.load(VerifyReport, bundle.root / VERIFY_FILE)
    rows = tuple(
        replace(row, verdict="different", reason="NaN") if row.subject.backend == backend else row
        for row in report.rows
    )
    stored.save(bundle.root / VERIFY_FILE, replace(report, rows=rows))


def test_what_verify_refused_is_told_and_not_planned(timed: Bundle) -> None:
    refuse(timed, "ort-cpu")
    best, *_, out = sorted(
        plan_capacity(timed, OPTIONS).candidates, key=lambda c: c.subject.backend == "ort-cpu"
    )
    assert (out.plan, out.reason, out.marks) == (None, "verify: different, NaN", ())
    assert best.subject.backend == "torch"
    assert best.plan is not None
    with pytest.raises(RefusedInput, match=r"ort-cpu:.*verify: different, NaN") as refused:
        plan_capacity(timed, OPTIONS, ["ort-cpu"])
    assert "longer p99" not in refused.value.remedy


def test_a_file_that_was_changed_is_not_planned(timed: Bundle) -> None:
    with timed.path(timed.checkpoint).open("ab") as file:
        file.write(b"x")
    with pytest.raises(RefusedInput, match="the file has"):
        plan_capacity(timed, OPTIONS)


def test_one_that_cannot_is_told_beside_one_that_can(timed: Bundle) -> None:
    report = plan_capacity(timed, CapacityOptions(qps=100, p99_ms=3.5))
    assert [c.plan is not None for c in report.candidates] == [True, False, False]
    assert "idle replica" in report.candidates[1].reason
    with pytest.raises(RefusedInput, match="no number of replicas"):
        plan_capacity(timed, CapacityOptions(qps=100, p99_ms=1))


def test_a_size_that_is_not_planned_with_is_told(timed: Bundle) -> None:
    artifact = timed.checkpoint
    failed = replace(
        timing(artifact, "one", 4, 1.0), status="failed", reason="out of memory", samples_ns=()
    )
    save(timed, timing(artifact, "one", 1, 2.0), failed, timing(artifact, "one", 16, 9.0, 40))
    (one,) = plan_capacity(timed, OPTIONS).candidates
    assert one.plan is not None
    assert one.batches == (1,)
    assert one.marks == (
        "batch 4 is left out: failed, out of memory",
        "batch 16 is left out: 40 runs, it takes 64",
    )
    (timed.root / VERIFY_FILE).unlink()
    assert plan_capacity(timed, OPTIONS).candidates[0].marks[0] == NOT_VERIFIED


def test_calls_that_are_noisy_are_told_beside_the_plan(timed: Bundle) -> None:
    row = timing(timed.checkpoint, "one", 1, 2.0)
    save(timed, replace(row, end_to_end_ns=(2_000_000, 3_000_000) * 10))
    (one,) = plan_capacity(timed, OPTIONS).candidates
    assert one.plan is not None
    assert one.marks == ("calls noisy: quartiles ±20.0 %",)


def test_batches_between_the_profiles_of_an_engine_are_padded_and_told(timed: Bundle) -> None:
    """A size that the engine refuses costs what the next one that it takes costs."""
    target = Target(flavour="tensorrt", version="10.0", compute_capability="9.0",
                    batches=((1, 1, 1), (16, 16, 16)))  # fmt: skip
    rows = [timing(timed.checkpoint, "one", size, 2.0 + 0.5 * size) for size in (1, 16)]
    save(timed, *rows)
    (any_size,) = plan_capacity(timed, OPTIONS).candidates
    engine = replace(timed.checkpoint, target=target)
    bundle = replace(timed, manifest=replace(timed.manifest, artifacts=(engine,)))
    (fixed,) = plan_capacity(bundle, OPTIONS).candidates
    assert fixed.marks == ("batches of 2 to 15 are padded to 16",)
    assert any_size.marks == ()
    assert fixed.plan is not None
    assert any_size.plan is not None
    assert fixed.plan.load.p50_ms > 1.1 * any_size.plan.load.p50_ms


def test_a_backend_that_never_ran_here_is_no_candidate(timed: Bundle) -> None:
    artifact = timed.checkpoint
    absent = replace(
        timing(artifact, "trt", 1, 1.0), batch=0, status="skipped", reason="no GPU", samples_ns=()
    )
    save(timed, timing(artifact, "one", 1, 2.0), absent)
    assert [c.subject.backend for c in plan_capacity(timed, OPTIONS).candidates] == ["one"]


def test_what_is_said_when_nothing_fits_is_of_what_was_planned(timed: Bundle) -> None:
    artifact = timed.checkpoint
    large = timing(artifact, "large", 8, 1.0)
    save(timed, large, timing(artifact, "one", 1, 90.0))
    with pytest.raises(RefusedInput, match="meets an idle replica has a p99"):
        plan_capacity(timed, OPTIONS)


def test_timings_of_a_file_that_is_gone_do_not_count(timed: Bundle) -> None:
    other = timing(timed.checkpoint, "ort-cpu", 1, 1.0)
    gone = Timing(
        subject=Subject(**{**vars(other.subject), "sha256": "0" * 64}),
        batch=1,
        status="measured",
        samples_ns=other.samples_ns,
    )
    save(timed, gone)
    with pytest.raises(RefusedInput, match="still there"):
        plan_capacity(timed, OPTIONS)


def test_without_timings_the_command_to_make_them_is_said(tiny_bundle: Bundle) -> None:
    with pytest.raises(RefusedInput, match="has no timings") as refused:
        plan_capacity(tiny_bundle, OPTIONS)
    assert "vgg-deploy bench" in refused.value.remedy


def test_the_command(timed: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan-capacity", str(timed.root), "--qps", "1000", "--p99-ms", "50", "-b", "ort-cpu"]
    assert main([*words, "--json"]) == 0
    (candidate,) = json.loads(capsys.readouterr().out)["candidates"]
    assert candidate["plan"]["load"]["replicas"] >= 1
    assert main([*words, "--price", "1.5"]) == 0
    said = capsys.readouterr().out
    assert "Price per million images" in said
    assert "Other limits" in said
    assert main([*words[:-2], "--p99-ms", "-1"]) == 2
    assert main([*words, "-b", "opnevino"]) == 2
    assert "did you mean 'openvino'?" in capsys.readouterr().err


def test_service_times_are_host_to_host_with_the_spread_of_the_runs(tiny_bundle: Bundle) -> None:
    row = timing(tiny_bundle.checkpoint, "ort-cpu", 1, 2.0)
    copied = replace(row, end_to_end_ns=(3_000_000, 3_000_000, 9_000_000))
    service = service_times([copied], tiny_bundle.checkpoint)
    assert service.median(1) == pytest.approx(0.003)
    drawn = service.draw(np.random.default_rng(0), 1000)[1]
    assert np.std(drawn) / 0.003 == pytest.approx(np.std(row.samples_ns) / 2e6, rel=0.1)
