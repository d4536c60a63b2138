"""How far a timed answer may be from a called one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vgg_deploy.bench.answers import APART, apart, require_same_answer
from vgg_deploy.errors import MeasurementNotValid
from vgg_deploy.verify.tolerance import TOLERANCES

CALLED = np.array([[3.0, 4.0], [0.0, 1.0]], np.float32)


@pytest.mark.parametrize(
    ("timed", "distance"),
    [
        (CALLED, 0.0),
        (
            CALLED + np.array([[0, 0], [0.1, 0]], np.float32),
            0.1,
        ),  # the worst image
        (CALLED[::-1], math.sqrt(18)),
        (CALLED[:, :1], math.inf),
        (CALLED[:1], math.inf),
        (np.where(CALLED == 3, np.nan, CALLED), math.inf),
    ],
)
def test_the_distance_of_the_worst_image(timed: np.ndarray, distance: float) -> None:
    assert apart(timed, CALLED) == pytest.approx(distance)


def test_zeros_are_only_like_zeros() -> None:
    zeros = np.zeros_like(CALLED)
    assert apart(zeros, zeros) == 0
    assert apart(CALLED, zeros) == math.inf


def test_half_precision_does_not_overflow() -> None:
    large = np.full((1, 4), 60_000, np.float16)
    assert apart(large, large) == 0
    assert apart(-large, large) == pytest.approx(2)


def test_limits_are_those_that_nothing_passes_in_verify() -> None:
    assert {name: t.batch_spread if t.by_accuracy else t.rel_l2_ceiling
            for name, t in TOLERANCES.items()} == APART  # fmt: skip


def test_a_precision_has_its_own_limit() -> None:
    require_same_answer(0.01, "fp16")
    with pytest.raises(MeasurementNotValid, match=r"a: the timed run answers otherwise .* 0\.001"):
        require_same_answer(0.01, "fp32", "a: ")


@pytest.mark.parametrize(
    ("modes", "applies"),
    [({"cuda_graph": "on"}, True), ({"cuda_graph": "off"}, False), ({}, False)],
)
def test_a_run_without_its_graph_is_a_remedy_only_where_it_had_one(
    modes: dict[str, str], applies: bool
) -> None:
    with pytest.raises(MeasurementNotValid) as caught:
        require_same_answer(1.0, "fp32", modes=modes)
    assert ("--no-cuda-graph" in caught.value.remedy) == applies
    assert "another backend" in caught.value.remedy
