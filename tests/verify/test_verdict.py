"""The verdict: what passes, and planted faults that must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vgg_deploy.errors import RefusedInput
from vgg_deploy.verify.compare import broken, constant, errors, softmax
from vgg_deploy.verify.runs import Call
from vgg_deploy.verify.tolerance import TOLERANCES
from vgg_deploy.verify.verdict import judge_calls, refuse_vacuous

REFERENCE = np.random.default_rng(0).normal(0, 3, (16, 10))
EAGER = (REFERENCE * (1 + 3e-7)).astype(np.float32)
NAMES = tuple(f"image {i}" for i in range(16))
FP32 = TOLERANCES["fp32"]
EVERY = np.arange(16)
Logits = NDArray[np.floating]


def verdict(*outputs: Logits, eager: Logits = EAGER) -> tuple[str, str]:
    """Judge calls that each had all images, or the first ones where there are fewer outputs."""
    calls = [Call(EVERY, out) for out in outputs]
    found = judge_calls(calls, REFERENCE, errors(eager, REFERENCE), NAMES, FP32)
    return found.verdict, found.reason


def test_rounding_is_equivalent() -> None:
    assert verdict((REFERENCE * (1 - 4e-7)).astype(np.float32)) == ("equivalent", "")


def poisoned(value: float) -> Callable[[Logits], Logits]:
    def plant(logits: Logits) -> Logits:
        logits = logits.copy()
        logits[5, 3] = value
        return logits

    return plant


FAULTS: dict[str, Callable[[Logits], Logits]] = {
    "one NaN": poisoned(float("nan")),
    "one infinity": poisoned(float("inf")),
    "one logit off by a thousandth": lambda x: poisoned(float(x[5, 3]) + 1e-3)(x),
    "softmax instead of logits": softmax,
    "labels permuted": lambda x: x[:, ::-1],
    "images shifted by one": lambda x: np.roll(x, 1, axis=0),
    "all zero": np.zeros_like,
    "the same for every image": lambda x: np.repeat(x[:1], len(x), axis=0),
    "bias lost": lambda x: x - 0.01,
    "half precision": lambda x: x.astype(np.float16),
    "a class too few": lambda x: x[:, :-1],
    "an image too few": lambda x: x[:-1],
    "integers": lambda x: x.astype(np.int64),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_different(fault: str) -> None:
    kind, reason = verdict(FAULTS[fault](EAGER))
    assert kind == "different"
    assert reason


def test_a_fault_in_one_call_is_found() -> None:
    wrong = EAGER.copy()
    wrong[3] += 0.1
    kind, reason = verdict(EAGER, wrong)
    assert kind == "different"
    assert "batch 16, worst on image 3" in reason


def test_outputs_that_agree_with_float64_but_not_with_each_other_are_told() -> None:
    """Each is close enough by itself; an int8 file is judged by this figure alone."""
    up, down = REFERENCE * (1 + 0.15), REFERENCE * (1 - 0.15)
    calls = [Call(EVERY, up), Call(EVERY, down)]
    found = judge_calls(calls, REFERENCE, errors(EAGER, REFERENCE), NAMES, TOLERANCES["int8"])
    assert found.verdict == "different"
    assert "the result depends on the call" in found.reason


def test_nothing_passes_beside_a_broken_eager() -> None:
    bf16_like = (REFERENCE * (1 + 4e-3)).astype(np.float32)
    assert verdict(bf16_like, eager=bf16_like)[0] == "different"


def test_flips_are_excused_only_where_the_margin_is_small() -> None:
    near = REFERENCE.copy()
    top = near[0].argsort()[-2:]
    near[0, top[0]] = near[0, top[1]] - 1e-7  # a tie, but for one part in ten million
    have = near.copy()
    have[0, top[0]] += 3e-7
    found = errors(have, near)
    assert (found.top1_flips, found.unexcused_flips) == (1, 0)
    have[0, top[0]] += 1e-3  # a wide flip is excused by nothing but its own error; see max_abs
    assert errors(have, near).max_abs > 1e-3


def test_vacuous_verdicts_are_refused() -> None:
    with pytest.raises(RefusedInput, match="no yardstick"):
        refuse_vacuous(np.zeros((16, 10)), FP32)
    refuse_vacuous(REFERENCE, FP32)


@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e-6, 1e-4])
def test_a_reference_that_hardly_depends_on_the_image_is_refused(spread: float) -> None:
    """A network that collapsed: any output that is its bias would pass beside it."""
    collapsed = REFERENCE[:1] + spread * REFERENCE
    with pytest.raises(RefusedInput, match="no yardstick"):
        refuse_vacuous(collapsed, FP32)


def test_one_lively_image_does_not_hide_a_collapsed_network() -> None:
    collapsed = np.repeat(REFERENCE[:1], 16, axis=0) + 1e-9 * REFERENCE
    collapsed[-1] = REFERENCE[-1]  # "all 255", say
    with pytest.raises(RefusedInput, match="no yardstick"):
        refuse_vacuous(collapsed, FP32)


@given(st.floats(1e-6, 1e-1), st.integers(0, 15), st.integers(0, 9))
def test_errors_measure_what_was_planted(size: float, image: int, label: int) -> None:
    have = REFERENCE.copy()
    have[image, label] += size
    found = errors(have, REFERENCE)
    assert found.max_abs == pytest.approx(size, rel=1e-6)
    assert found.worst_image == image
    assert found.unexcused_flips == 0  # a flip needs a margin below twice the error


def test_errors_of_the_same_are_nothing() -> None:
    found = errors(REFERENCE, REFERENCE)
    assert (found.max_abs, found.rel_l2, found.top1_flips, found.top5_agreement) == (0, 0, 0, 1)
    assert found.cosine == pytest.approx(1)
    assert broken(REFERENCE, REFERENCE.shape) is None
    assert constant(REFERENCE) is None


def test_every_limit_is_told_beside_its_figure() -> None:
    found = judge_calls(
        [Call(EVERY, EAGER)], REFERENCE, errors(EAGER, REFERENCE), NAMES, replace(FP32, k=5)
    )
    judged = {f.name: f.limit for f in found.figures if f.limit is not None}
    assert set(judged) == {"rel_l2", "max_abs", "unexcused_flips", "batch_spread"}
