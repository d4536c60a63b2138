"""Every limit that a stored result says it keeps is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.machine_paths import machine_paths
from vgg_deploy.bench.rules import DRIFT, EVEN, NOISY

RESULTS = Path(__file__).parents[2] / "docs" / "results"
FLAGS = ("holds", "within_limit")


def flagged(value: Any) -> Iterator[dict[str, Any]]:
    """Every object, however deep, that says whether a limit held."""
    if isinstance(value, dict):
        if any(flag in value for flag in FLAGS):
            yield value
        for one in value.values():
            yield from flagged(one)
    elif isinstance(value, list):
        for one in value:
            yield from flagged(one)


FILES = [
    path
    for path in sorted(RESULTS.glob("*.json"))
    if any(f'"{flag}"' in path.read_text("utf-8") for flag in FLAGS)
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_a_stored_result_promises_holds(path: Path) -> None:
    found = list(flagged(json.loads(path.read_text("utf-8"))))
    assert found
    assert all(one[flag] for one in found for flag in FLAGS if flag in one)


def test_the_loop_costs_less_than_its_limit() -> None:
    stored = json.loads((RESULTS / "bench_overhead.json").read_text("utf-8"))
    overhead, agreement = stored["overhead"], stored["ort_cpu"]
    assert overhead["added_ns"] < overhead["limit_ns"]
    assert abs(agreement["ratio"] - 1) < agreement["limit"]


def test_comparisons_raise_no_more_false_alarms_than_their_bound() -> None:
    stored = json.loads((RESULTS / "comparison.json").read_text("utf-8"))["results"]
    equal = [one for one in stored.values() if "binomial_bound" in one]
    assert equal
    assert all(one["false_alarms"] <= one["binomial_bound"] for one in equal)


def test_preprocessing_inside_the_file_costs_no_more_than_its_limit() -> None:
    stored = json.loads((RESULTS / "embedded_cost.json").read_text("utf-8"))
    assert stored["ratio"]["high"] < stored["limit"]


def test_the_marks_of_a_timing_tell_a_quiet_machine_from_a_busy_one() -> None:
    rows = json.loads((RESULTS / "noise.json").read_text("utf-8"))["rows"]
    alone = [row for row in rows if not row["loaded"]]
    busy = [row for row in rows if row["loaded"]]
    assert min(len(alone), len(busy)) >= 40
    for row in alone:
        assert row["spread"] < NOISY["host"]
        assert abs(row["drift"]) < DRIFT
        assert row["mean_ms"] < EVEN * row["p50_ms"]
    for row in busy:
        assert row["spread"] > NOISY["host"]
        assert row["mean_ms"] > EVEN * row["p50_ms"]


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_a_stored_result_names_no_path_of_the_machine_it_was_made_on(path: Path) -> None:
    assert not machine_paths(path.read_text("utf-8"))
