"""Which pair fits, why the others do not, and the nearest miss."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from tests.bench.rows import MACHINE, passed, report, row
from tests.heard import Heard, Step
from vgg_deploy import stored
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import RefusedInput, UsageError
from vgg_deploy.pipeline.choose import Choice, ChooseOptions, choice_error, choose
from vgg_deploy.report.tradeoff_plot import accuracy_latency_plot
from vgg_deploy.results import (
    BENCH_FILE,
    VERIFY_FILE,
    Accuracy,
    Comparison,
    Figure,
    Timing,
)


def verified(timing: Timing, correct: int = 9000, drop: float = 0.0, **given: Any) -> Comparison:
    made = Comparison(
        subject=timing.subject,
        verdict="equivalent",
        reason="",
        figures=(Figure(name="top1_drop", value=drop, limit=0.5, ok=True),),
        accuracy=Accuracy(dataset="d", split="test", correct=correct, total=10_000),
    )
    return replace(made, **given)


def chosen(
    bundle: Bundle,
    rows: list[Timing],
    verdicts: list[Comparison],
    verify: dict[str, Any] | None = None,
    **options: Any,
) -> Choice:
    here = bundle.checkpoint.sha256
    rows = [replace(r, subject=replace(r.subject, sha256=here)) for r in rows]
    verdicts = [replace(v, subject=replace(v.subject, sha256=here)) for v in verdicts]
    made = replace(passed([]), rows=tuple(verdicts), **(verify or {}))
    stored.save(bundle.root / VERIFY_FILE, made)
    stored.save(bundle.root / BENCH_FILE, report(rows))
    return choose(bundle, ChooseOptions(**options))


def names(choice: Choice) -> list[str]:
    return [c.subject.id for c in choice.best]


def reasons(choice: Choice) -> dict[str, str]:
    return {c.subject.id: c.reason for c in choice.out}


FAST = row("ort-cpu", 5, precision="int8")  # smaller, less accurate
EXACT = row("ort-cpu", 10)
SLOW = row("torch", 20)
VERDICTS = [verified(FAST, 8960, 0.4), verified(EXACT), verified(SLOW)]


def test_the_pareto_set_fastest_first_and_the_rest_with_reasons(tiny_bundle: Bundle) -> None:
    choice = chosen(tiny_bundle, [SLOW, EXACT, FAST], VERDICTS, latency_ms=50)
    assert names(choice) == ["ort-cpu:model.int8.onnx", "ort-cpu:model.fp32.onnx"]
    assert reasons(choice) == {
        "torch:model.fp32.onnx": "fits, but is slower than ort-cpu:model.fp32.onnx, "
        "and better in nothing"
    }
    assert choice_error(choice) is None


@pytest.mark.parametrize(
    ("limits", "best"),
    [
        ({"max_top1_drop": 0.1}, ["ort-cpu:model.fp32.onnx"]),
        ({"max_mb": 2}, ["ort-cpu:model.int8.onnx"]),
        ({"latency_ms": 7}, ["ort-cpu:model.int8.onnx"]),
    ],
)
def test_each_limit_takes_out_what_misses_it(
    tiny_bundle: Bundle, limits: dict[str, Any], best: list[str]
) -> None:
    assert names(chosen(tiny_bundle, [SLOW, EXACT, FAST], VERDICTS, **limits)) == best


def test_the_nearest_miss(tiny_bundle: Bundle) -> None:
    choice = chosen(tiny_bundle, [SLOW, EXACT, FAST], VERDICTS, latency_ms=8, max_top1_drop=0.1)
    error = choice_error(choice)
    assert error is not None
    assert error.exit_code == 1
    assert "nearest: ort-cpu:model.fp32.onnx, p90 10.1 ms, above 8" in error.cause


def test_the_nearest_miss_of_a_gain_that_is_asked_for(tiny_bundle: Bundle) -> None:
    """Half a point better misses a gain of two by 1.5 points, 30 % slower by 1.3 times."""
    better, slower = row("better", 5), row("slower", 6.5)
    verdicts = [verified(better, drop=-0.5), verified(slower, drop=-3)]
    choice = chosen(tiny_bundle, [better, slower], verdicts, latency_ms=5.2, max_top1_drop=-2)
    assert choice.nearest is not None
    assert choice.nearest.subject.backend == "slower"
    assert {c.subject.backend: c.over > 1 for c in choice.out} == {"better": True, "slower": True}


@pytest.mark.parametrize("batch", [1, 4])
def test_the_report_rings_what_choose_takes_as_its_caption_says(
    tiny_bundle: Bundle, batch: int
) -> None:
    """One has the better median, the other the better p90."""
    spread = tuple(int(1e6 * ms) for ms in [10] * 80 + [30] * 20)
    median = row("median", 10, batch=batch, samples_ns=spread)
    steady = row("steady", 12, batch=batch)
    rows, verdicts = [median, steady], [verified(median), verified(steady)]
    plot = accuracy_latency_plot(replace(passed([]), rows=tuple(verdicts)), report(rows))
    assert plot is not None
    words = re.search(r"choose --percentile (\d+) --batch (\d+)", plot.caption)
    assert words
    taken = chosen(tiny_bundle, rows, verdicts, percentile=int(words[1]), batch=int(words[2]))
    assert [c.subject.backend for c in taken.best] == ["median"]
    ringed = [part for part in plot.description.split("; ") if "in the Pareto set" in part]
    assert [part.split(":")[0] for part in ringed] == ["median"]
    usual = chosen(tiny_bundle, rows, verdicts, batch=batch)
    assert [c.subject.backend for c in usual.best] == ["steady"]


@pytest.mark.parametrize(
    ("timing", "verdict", "said"),
    [
        ({"marks": ("noisy: quartiles ±40 %",)}, {}, "not settled: noisy"),
        ({"batch": 8}, {}, "not timed at batch 1"),
        ({"status": "failed", "reason": "broke", "samples_ns": ()}, {}, "failed: broke"),
        ({"samples_ns": (1_000_000,) * 20}, {}, "20 queries cannot tell p90"),
        ({}, {"verdict": "different", "reason": "rel_l2"}, "different: rel_l2"),
        ({}, {"figures": ()}, "top-1 drop is not known"),
    ],
)
def test_why_a_pair_is_out(
    tiny_bundle: Bundle, timing: dict[str, Any], verdict: dict[str, Any], said: str
) -> None:
    choice = chosen(
        tiny_bundle,
        [replace(EXACT, **timing)],
        [replace(verified(EXACT), **verdict)],
        max_top1_drop=1,
        latency_ms=100,
    )
    assert names(choice) == []
    assert reasons(choice)["ort-cpu:model.fp32.onnx"].startswith(said)


def test_unverified_is_out_and_unsettled_can_be_let_in(tiny_bundle: Bundle) -> None:
    assert reasons(chosen(tiny_bundle, [EXACT], []))["ort-cpu:model.fp32.onnx"] == "not verified"
    marked = replace(EXACT, marks=("noisy: quartiles ±40 %",))
    assert names(chosen(tiny_bundle, [marked], [verified(EXACT)], unsettled=True))


def test_a_file_that_was_made_again_is_out(tiny_bundle: Bundle) -> None:
    stored.save(tiny_bundle.root / VERIFY_FILE, passed([EXACT]))
    stored.save(tiny_bundle.root / BENCH_FILE, report([EXACT]))
    (out,) = choose(tiny_bundle, ChooseOptions()).out
    assert "made again" in out.reason


def test_a_verdict_of_other_versions_does_not_settle_it(tiny_bundle: Bundle) -> None:
    old = {"environment": replace(MACHINE, versions={"onnxruntime": "1.30.0"})}
    choice = chosen(tiny_bundle, [EXACT], [verified(EXACT)], old)
    assert reasons(choice)["ort-cpu:model.fp32.onnx"] == (
        "not settled: verified with other versions or on another machine: onnxruntime 1.30.0, "
        "not 1.31.1; verify again"
    )
    assert names(chosen(tiny_bundle, [EXACT], [verified(EXACT)], old, unsettled=True))


def test_a_file_that_was_verified_after_it_was_timed_fits(tiny_bundle: Bundle) -> None:
    """Older results hold the mark of the day; what verify says now is what counts."""
    early = replace(EXACT, marks=("not verified: run vgg-deploy verify first",))
    assert names(chosen(tiny_bundle, [early], [verified(EXACT)]))


@pytest.mark.parametrize("harm", ["shorter", "gone"])
def test_a_file_that_is_not_what_it_was_does_not_fit(tiny_bundle: Bundle, harm: str) -> None:
    path = tiny_bundle.path(tiny_bundle.checkpoint)
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    choice = chosen(tiny_bundle, [EXACT], [verified(EXACT)])
    assert names(choice) == []
    said = reasons(choice)["ort-cpu:model.fp32.onnx"]
    assert said.startswith("the file is missing" if harm == "gone" else "the file has ")
    assert choice_error(choice) is not None


def test_without_results_the_command_is_named(tiny_bundle: Bundle) -> None:
    with pytest.raises(RefusedInput, match="no results of verify") as caught:
        choose(tiny_bundle, ChooseOptions())
    assert "vgg-deploy verify" in caught.value.remedy


@pytest.mark.parametrize(
    "bad", [{"latency_ms": 0}, {"max_mb": -1}, {"batch": 0}, {"percentile": 42}]
)
def test_limits_that_cannot_be(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ChooseOptions(**bad)


def test_nothing_that_was_timed_well_says_how_to_measure(tiny_bundle: Bundle) -> None:
    error = choice_error(chosen(tiny_bundle, [replace(EXACT, batch=8)], VERDICTS))
    assert error is not None
    assert "first: " in error.cause
    assert "not timed at batch 1" in error.cause
    assert "vgg-deploy bench BUNDLE --batch 1" in error.remedy


def test_throughput_is_the_one_that_bench_shows(tiny_bundle: Bundle) -> None:
    """On a GPU that of runs enqueued together, not that of the mean latency."""
    burst = replace(EXACT, burst_runs=100, burst_ns=500_000_000)
    (best,) = chosen(tiny_bundle, [burst], [verified(EXACT)]).best
    assert best.images_per_s == 200


def test_limits_are_finite_numbers() -> None:
    with pytest.raises(UsageError, match="max-top1-drop nan"):
        ChooseOptions(max_top1_drop=float("nan"))
    assert ChooseOptions(max_top1_drop=0).max_top1_drop == 0


def test_hashing_is_told_once_per_file_that_may_fit(tiny_bundle: Bundle) -> None:
    chosen(tiny_bundle, [SLOW, EXACT, FAST], VERDICTS)  # three pairs of one file
    heard = Heard()
    choose(tiny_bundle, ChooseOptions(), heard)
    assert heard.steps == [Step("check the files", 1, "files", None, done=1)]
    none = Heard()
    choose(tiny_bundle, ChooseOptions(latency_ms=1e-6), none)
    assert none.steps == []
