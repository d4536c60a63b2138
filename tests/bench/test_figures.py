"""Figures by name, and what ``--fail-if`` makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.bench.rows import report, row
from vgg_deploy.bench.figures import FIGURES, gate_error, images_per_s, percentile_for
from vgg_deploy.errors import LimitNotMet, MeasurementNotValid
from vgg_deploy.gates import parse_gate


def gate(text: str) -> Any:
    return parse_gate(text, FIGURES)


def test_figures_in_their_units() -> None:
    one = row("a", 10, load_s=0.5, first_s=0.02, peak_memory_bytes=3_000_000)
    one = replace(one, end_to_end_ns=(12_000_000,) * 20)
    found = {name: figure(one) for name, figure in FIGURES.items()}
    assert found["p50_ms"] == pytest.approx(10, rel=0.01)
    assert found["end_to_end_ms"] == 12
    assert found["load_ms"] == 500
    assert found["peak_memory_mb"] == 3
    assert found["file_mb"] == 4
    assert found["p99_ms"] is None  # 200 queries
    assert found["gpu_memory_mb"] is None


def test_throughput_is_that_of_the_burst_where_there_is_one() -> None:
    one = row("a", 10, batch=4)
    assert images_per_s(one) == pytest.approx(400, rel=0.01)
    assert images_per_s(replace(one, burst_runs=100, burst_ns=800_000_000)) == 500


def test_bench_measures_long_enough_for_its_gates() -> None:
    assert percentile_for([], 90) == 90
    assert percentile_for([gate("p99_ms>20"), gate("p50_ms>1")], 90) == 99


def test_a_gate_that_holds_a_gate_that_does_not_and_one_that_cannot_be_told() -> None:
    rows = report([row("a", 10), row("b", 30)])
    assert gate_error(rows, [gate("p90_ms>40")]) is None
    slow = gate_error(rows, [gate("p90_ms>20")])
    assert isinstance(slow, LimitNotMet)
    assert slow.exit_code == 1
    assert "b:model.fp32.onnx at batch 1" in slow.cause
    untold = gate_error(rows, [gate("p99_ms>40")])
    assert isinstance(untold, MeasurementNotValid)
    assert untold.exit_code == 8


def test_a_figure_that_breaks_a_rule_is_no_gate() -> None:
    marked = report([row("a", 10, marks=("noisy: quartiles ±40 %",))])
    error = gate_error(marked, [gate("p90_ms>40")])
    assert isinstance(error, MeasurementNotValid)
    assert "noisy: quartiles ±40 %" in error.cause
    assert gate_error(marked, []) is None


def test_calls_that_are_noisy_make_no_gate_on_them_and_none_other_fail() -> None:
    uneven = report([row("a", 10, end_to_end_ns=(12_000_000, 16_000_000) * 10)])
    error = gate_error(uneven, [gate("end_to_end_ms>40")])
    assert isinstance(error, MeasurementNotValid)
    assert "calls noisy: quartiles ±14.3 %" in error.cause
    assert gate_error(uneven, [gate("p90_ms>40")]) is None
    even = report([row("a", 10, end_to_end_ns=(12_000_000, 12_500_000) * 10)])
    assert gate_error(even, [gate("end_to_end_ms>40")]) is None


def test_a_size_is_judged_however_noisy_the_timing() -> None:
    marked = report([row("a", 10, marks=("noisy: quartiles ±40 %",), peak_memory_bytes=3_000_000)])
    assert gate_error(marked, [gate("file_mb>100"), gate("peak_memory_mb>100")]) is None
    large = gate_error(marked, [gate("file_mb>1")])
    assert isinstance(large, LimitNotMet)
    assert isinstance(gate_error(marked, [gate("gpu_memory_mb>1")]), MeasurementNotValid)


def test_skipped_rows_are_no_figures() -> None:
    skipped = row("a", 10, status="skipped", samples_ns=(), reason="no library")
    assert gate_error(report([skipped, row("b", 1)]), [gate("p50_ms>5")]) is None
