"""When a verdict counts for a timing: the same file, libraries and machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.bench.rows import MACHINE, passed, report, row
from vgg_deploy.backends import BACKENDS
from vgg_deploy.environment import PACKAGES, Environment
from vgg_deploy.report.standing import (
    ELSEWHERE,
    NOT_VERIFIED,
    difference,
    libraries_of,
    with_verdicts,
)
from vgg_deploy.results import Block, Contest

NOISY = "noisy: quartiles ±40 %"
ROW = row("ort-cpu", 5)
GPU = replace(ROW.subject, backend="ort-cuda", device="cuda")
BOTH = replace(MACHINE, versions={"onnxruntime": "1", "onnxruntime-gpu": "1", "openvino": "1"})


def updated(**versions: str) -> Environment:
    return replace(BOTH, versions={**BOTH.versions, **versions})


@pytest.mark.parametrize(
    ("here", "on_cpu", "on_gpu"),
    [
        (BOTH, "", ""),
        (updated(onnxruntime="2"), *["onnxruntime 1, not 2"] * 2),
        (updated(openvino="2"), "", ""),
        (replace(BOTH, cpu="Another"), "cpu Some CPU, not Another", ""),
        (replace(BOTH, cpu_flags=("avx2",)), "cpu_flags none, not avx2", ""),
        (replace(BOTH, gpu="A GPU"), "", "gpu none, not A GPU"),
        (replace(BOTH, driver="600"), "", "driver none, not 600"),
        (replace(BOTH, cores=64, python="3.12"), "", ""),
    ],
)
def test_what_a_backend_depends_on(here: Environment, on_cpu: str, on_gpu: str) -> None:
    assert difference(ROW.subject, BOTH, here) == on_cpu
    assert difference(GPU, BOTH, here) == on_gpu


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_names_its_libraries(name: str) -> None:
    found = libraries_of(name)
    assert found
    assert set(found) < set(PACKAGES)


def test_marks_follow_the_verdict_of_today() -> None:
    old = replace(ROW, marks=(NOT_VERIFIED, NOISY, "verify: different, rel_l2", f"{ELSEWHERE}: x"))
    (now,) = with_verdicts(report([old]), passed([ROW])).rows
    assert now.marks == (NOISY,)
    (now,) = with_verdicts(report([old]), None).rows
    assert now.marks == (NOT_VERIFIED, NOISY)
    bad = replace(passed([ROW]).rows[0], verdict="different", reason="rel_l2")
    (now,) = with_verdicts(report([ROW]), replace(passed([]), rows=(bad,))).rows
    assert now.marks == ("verify: different, rel_l2",)


def test_a_comparison_in_turns_has_the_marks_of_all_it_compares() -> None:
    other = replace(ROW.subject, backend="openvino")
    one = Contest(
        subjects=(ROW.subject, other),
        batch=1,
        runs_per_turn=(1, 1),
        blocks=(Block(order=(0, 1), medians_ns=(1.0, 1.0)),),
        marks=("verify: failed, broke", NOISY),
    )
    (now,) = with_verdicts(report([], contests=(one,)), passed([ROW])).contests
    assert now.marks == (NOT_VERIFIED, NOISY)
