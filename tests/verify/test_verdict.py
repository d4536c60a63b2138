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
from vgg_deploy.verify.verdict import Resized, judge_calls, refuse_all_vacuous, refuse_vacuous
from vgg_deploy.verify.worst import worst_image

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


def flipped(margin: float, image: int = 0) -> tuple[Logits, NDArray[np.float64]]:
    """Outputs that name the second class of an image, and the reference with that margin."""
    want = REFERENCE.copy()
    second, first = want[image].argsort()[-2:]
    want[image, second] = want[image, first] - margin
    have = want.copy()
    have[image, second] += 1.5 * margin
    return have, want


@pytest.mark.parametrize(("margin", "unexcused"), [(1e-6, 0), (6e-5, 0), (8e-5, 1), (0.5, 1)])
def test_flips_are_excused_only_within_what_the_precision_allows(
    margin: float, unexcused: int
) -> None:
    """Here fp32 may be off by 1.2e-5 of an rms of about 3, so by 3.7e-5 on either logit."""
    have, want = flipped(margin)
    exact = errors(want.astype(np.float32), want)
    found = judge_calls([Call(EVERY, have)], want, exact, NAMES, FP32)
    (figure,) = (f for f in found.figures if f.name == "unexcused_flips")
    assert (figure.value, figure.ok) == (unexcused, unexcused == 0)
    assert ("unexcused_flips 1 above 0" in found.reason) == bool(unexcused)
    assert found.worst == 0


def test_without_a_limit_flips_are_excused_by_a_typical_error_not_by_their_own() -> None:
    have, want = flipped(0.5)
    have[1:] += 0.01
    found = judge_calls([Call(EVERY, have)], want, errors(want, want), NAMES, TOLERANCES["int8"])
    (figure,) = (f for f in found.figures if f.name == "unexcused_flips")
    assert (figure.value, figure.limit) == (1, None), "told, not judged"
    assert errors(have, want, allowed=0.3).unexcused_flips == 0
    assert found.verdict == "equivalent"


def test_the_first_image_with_a_nan_is_named_and_its_answer_kept() -> None:
    wrong = EAGER.copy()
    wrong[[5, 9], 3] = np.nan
    calls = [Call(EVERY, EAGER), Call(EVERY[::-1], wrong[::-1])]
    found = judge_calls(calls, REFERENCE, errors(EAGER, REFERENCE), NAMES, FP32)
    assert found.worst == 9, "the first in its call"
    assert "in 2 images (batch 16, first on image 9)" in found.reason
    assert found.answer is not None
    assert np.isnan(found.answer[3])
    shown = worst_image(
        9, "nine", np.zeros((4, 4, 1), np.uint8), found.answer, REFERENCE, "ABCDEFGHIJ"
    )
    assert (shown.rel_l2, shown.found) == (None, "NaN or infinity")


def test_the_worst_image_is_shown_as_the_worst_call_gave_it() -> None:
    wrong = EAGER.copy()
    wrong[3] += 0.1
    calls = [Call(EVERY, EAGER), Call(EVERY, wrong), Call(EVERY, EAGER)]
    found = judge_calls(calls, REFERENCE, errors(EAGER, REFERENCE), NAMES, FP32)
    assert found.worst == 3
    assert found.answer is not None
    assert found.outputs is not None
    np.testing.assert_array_equal(found.answer, wrong[3])
    np.testing.assert_array_equal(found.outputs[3], wrong[3])
    shown = worst_image(
        3, "three", np.zeros((4, 4, 1), np.uint8), found.answer, REFERENCE, "ABCDEFGHIJ"
    )
    (figure,) = (f for f in found.figures if f.name == "rel_l2")
    assert shown.rel_l2 == figure.value


@pytest.mark.parametrize(("times", "verdict"), [(4.9, "equivalent"), (5.1, "different")])
def test_an_int8_file_that_resizes_is_judged_on_images_of_other_sizes(
    times: float, verdict: str
) -> None:
    have = REFERENCE * 1.02
    have[13] = REFERENCE[13] * (1 + 0.02 * times)
    typical = np.linalg.norm(REFERENCE, axis=1)
    want = REFERENCE / typical[:, None]  # every image of the norm 1, so that errors are shares
    have = have / typical[:, None]
    parts = Resized(real=np.arange(10), sizes=np.arange(12, 15))
    found = judge_calls(
        [Call(EVERY, have)], want, errors(want, want), NAMES, TOLERANCES["int8"], parts
    )
    assert found.verdict == verdict
    figure = found.figures[-1]
    assert figure.name == "sizes_rel_l2"
    assert figure.limit == pytest.approx(0.1)
    if verdict == "different":
        assert "(the file's own resize, worst on image 13)" in found.reason
        assert found.worst == 13


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


def test_a_precision_that_cannot_be_judged_does_not_stop_the_others() -> None:
    faint = REFERENCE[:1] + 1e-2 * REFERENCE  # above fp32's ceiling, below that of bf16
    with pytest.raises(RefusedInput, match="no yardstick"):
        refuse_vacuous(faint, TOLERANCES["bf16"])
    refuse_all_vacuous(faint, ("bf16", "fp32", "int8"))
    with pytest.raises(RefusedInput, match="no yardstick"):
        refuse_all_vacuous(faint, ("bf16", "int8"))


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
    assert found.unexcused_flips == found.top1_flips, "the other images have no error at all"


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
