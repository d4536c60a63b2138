"""The verdict: what passes, and planted faults that must not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vgg_deploy.errors import RefusedInput
from vgg_deploy.verify.compare import broken, errors, softmax
from vgg_deploy.verify.inputs import Inputs
from vgg_deploy.verify.tolerance import TOLERANCES
from vgg_deploy.verify.verdict import judge_outputs, refuse_vacuous

REFERENCE = np.random.default_rng(0).normal(0, 3, (16, 10))
EAGER = (REFERENCE * (1 + 3e-7)).astype(np.float32)
INPUTS = Inputs(
    batch=np.zeros((16, 1, 2, 2), np.float32),
    names=tuple(f"image {i}" for i in range(16)),
    counts={"real": 16},
    source="test",
)
FP32 = TOLERANCES["fp32"]
Logits = NDArray[np.floating]


def verdict(outputs: Logits) -> tuple[str, str]:
    found = judge_outputs({1: outputs}, {1: EAGER}, REFERENCE, INPUTS, FP32)
    return found.verdict, found.reason


def test_rounding_is_equivalent() -> None:
    assert verdict((REFERENCE * (1 - 4e-7)).astype(np.float32))[0] == "equivalent"


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
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_different(fault: str) -> None:
    kind, reason = verdict(FAULTS[fault](EAGER))
    assert kind == "different"
    assert "batch 1" in reason


def test_a_fault_at_one_batch_size_is_found() -> None:
    wrong = EAGER.copy()
    wrong[0] += 0.1
    found = judge_outputs({1: EAGER, 8: wrong}, {1: EAGER, 8: EAGER}, REFERENCE, INPUTS, FP32)
    assert found.verdict == "different"
    assert "batch 8, worst on image 0" in found.reason


def test_nothing_passes_beside_a_broken_eager() -> None:
    bf16_like = (REFERENCE * (1 + 4e-3)).astype(np.float32)
    found = judge_outputs({1: bf16_like}, {1: bf16_like}, REFERENCE, INPUTS, FP32)
    assert found.verdict == "different"


def test_vacuous_verdicts_are_refused() -> None:
    with pytest.raises(RefusedInput, match="no yardstick"):
        refuse_vacuous(INPUTS, np.zeros((16, 10)), FP32)
    few = Inputs(batch=INPUTS.batch[:3], names=INPUTS.names[:3], counts={}, source="")
    with pytest.raises(RefusedInput, match="too few"):
        refuse_vacuous(few, REFERENCE[:3], FP32)
    refuse_vacuous(INPUTS, REFERENCE, FP32)


@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e-6, 1e-4])
def test_a_reference_that_hardly_depends_on_the_image_is_refused(spread: float) -> None:
    """A network that collapsed: any output that is its bias would pass beside it."""
    collapsed = REFERENCE[:1] + spread * REFERENCE
    with pytest.raises(RefusedInput, match="no yardstick"):
        refuse_vacuous(INPUTS, collapsed, FP32)


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
