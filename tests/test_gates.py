"""Conditions that make a command fail."""

from __future__ import annotations

import math

import pytest

from vgg_deploy.bench.figures import FIGURES as BENCH
from vgg_deploy.errors import UsageError
from vgg_deploy.gates import parse_gate, parse_gates
from vgg_deploy.pipeline.diff import DIFF_FIGURES
from vgg_deploy.verify.tolerance import FIGURES

KNOWN = {"p99_ms", "top1_drop"}


@pytest.mark.parametrize(
    ("text", "below", "at", "above"),
    [
        ("p99_ms>20", False, False, True),
        (" p99_ms >= 20 ", False, True, True),
        ("p99_ms<2e1", True, False, False),
        ("p99_ms<=20.0", True, True, False),
    ],
)
def test_when_a_condition_trips(text: str, below: bool, at: bool, above: bool) -> None:
    gate = parse_gate(text, KNOWN)
    assert [gate.trips(value) for value in (19.9, 20, 20.1)] == [below, at, above]
    assert gate.text.startswith("p99_ms")


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_known_never_passes(value: float | None) -> None:
    assert parse_gate("p99_ms>20", KNOWN).trips(value)
    assert parse_gate("p99_ms<20", KNOWN).trips(value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a condition"),
        ("p99_ms", "not a condition"),
        ("p99_ms=20", "not a condition"),
        ("p99_ms>>20", "not a number"),
        ("20<p99_ms", "not a condition"),
        ("p99_ms>20 and p50_ms>1", "not a condition"),
        ("p99_ms>abc", "not a number"),
        ("p99_ms>nan", "not a number"),
        ("p99>20", "unknown figure"),
        ("__import__('os')>1", "not a condition"),
    ],
)
def test_what_is_no_condition_is_a_usage_error(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse_gate(text, KNOWN)
    assert caught.value.remedy


def test_several_and_none() -> None:
    assert [g.name for g in parse_gates(["top1_drop>0.5", "p99_ms>20"], KNOWN)] == [
        "top1_drop",
        "p99_ms",
    ]
    assert parse_gates(None, KNOWN) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("top1<0.9", "top1 is in points, 0 to 100"),
        ("top1_low<1", "in points, 0 to 100"),
        ("top1>101", "in points"),
        ("top1_drop>200", "in points, -100 to 100"),
        ("top5_agreement<99", "a number from 0 to 1"),
        ("cosine<99.9", "a number from -1 to 1"),
        ("cv>5", "a fraction of the mean"),
        ("cosine<-2", "a number from -1 to 1"),
        ("cosine<-1", "a number from -1 to 1"),
        ("top5_agreement<-3", "a number from 0 to 1"),
        ("cv<-1", "a fraction of the mean"),
        ("cv<0", "a fraction of the mean"),
        ("p99_ms<0", "0 or more"),
        ("file_mb>-1", "0 or more"),
        ("images_per_s<0", "0 or more"),
        ("ratio_low<-1", "0 or more"),
        ("eager_rel_l2<0", "0 or more"),
        ("top1_flips<0", "0 or more"),
    ],
)
def test_a_limit_in_another_unit_is_a_usage_error(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_gate(text, (*FIGURES, *BENCH, *DIFF_FIGURES))


@pytest.mark.parametrize(
    "text",
    ["top1<90", "top1_high<=100", "top1_drop>0.3", "top5_drop>-1", "top5_agreement<1", "cv>0.05",
     "top1_flips>0", "cosine<-0.5", "file_mb>0", "p99_ms<=0", "kl>-1"],
)  # fmt: skip
def test_a_limit_in_the_figures_own_unit_is_taken(text: str) -> None:
    assert parse_gate(text, (*FIGURES, *BENCH)).text == text
