"""The limits: they follow from what was measured, and the docs tell the same ones."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from tests.conftest import make_bundle, make_card
from vgg_deploy.artifact import PRECISIONS, Precision, TensorSpec
from vgg_deploy.backends.reference import EMULATED, eager, reference, rounded, stage_names, stages
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import RefusedInput
from vgg_deploy.pipeline.verify_cells import VerifyOptions
from vgg_deploy.results import Accuracy
from vgg_deploy.verify.accuracy import Answers, accuracy_of, answers, confusion, refuse_untrained
from vgg_deploy.verify.compare import Errors, distances
from vgg_deploy.verify.tolerance import (
    TOLERANCES,
    Tolerance,
    accuracy_verdict,
    as_numbers,
    images_needed,
    judge,
    judge_accuracy,
    limits,
    require_labels,
)

DOCS = Path(__file__).parents[2] / "docs"
CALIBRATION = json.loads((DOCS / "results/tolerance_calibration.json").read_text())
CLOSE = [p for p in PRECISIONS if not TOLERANCES[p].by_accuracy]


def test_every_precision_has_limits() -> None:
    assert set(TOLERANCES) == set(PRECISIONS)


@pytest.mark.parametrize("precision", CLOSE)
def test_floors_are_three_times_what_eager_makes_of_the_median_network(
    precision: Precision,
) -> None:
    runs = [network["errors"][f"{precision} eager"] for network in CALIBRATION["networks"]]
    limits = TOLERANCES[precision]
    relative = 3 * median(run["rel_l2"] for run in runs)
    absolute = 3 * median(run["max_abs_in_rms"] for run in runs)
    assert limits.rel_l2_floor == pytest.approx(relative, rel=0.15)
    assert limits.max_abs_floor == pytest.approx(absolute, rel=0.15)
    assert limits.rel_l2_ceiling > 3 * limits.rel_l2_floor


@pytest.mark.parametrize("precision", CLOSE)
def test_no_runtime_that_was_measured_is_beyond_its_limit(precision: Precision) -> None:
    limits = TOLERANCES[precision]
    for network in CALIBRATION["networks"]:
        runs = {k: v for k, v in network["errors"].items() if k.startswith(precision)}
        own = runs[f"{precision} eager"]["rel_l2"]
        for label, run in runs.items():
            assert run["rel_l2"] <= max(limits.k * own, limits.rel_l2_floor), (network, label)


def test_the_calibration_has_the_deep_networks_at_full_size() -> None:
    full = {n["network"] for n in CALIBRATION["networks"] if n["size"] == 224}
    assert {"vgg11", "vgg16", "vgg19"} <= full


def test_the_docs_tell_the_limits() -> None:
    text = (DOCS / "verify-and-bench.md").read_text(encoding="utf-8")
    for precision, tolerance in TOLERANCES.items():
        (row,) = re.findall(rf"^\| {precision} \|(.*)\|$", text, re.MULTILINE)
        numbers = [float(cell) for cell in row.split("|") if cell.strip() not in ("", "–")]
        wanted = as_numbers(tolerance)
        wanted.pop("batch_spread", None)
        assert numbers == pytest.approx(list(wanted.values()))


def test_rounding_is_that_of_the_precision() -> None:
    import torch

    values = torch.tensor([1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-10, -3.14159265, 65_519.0, 1e-30])
    tf32 = rounded(values, "tf32")
    assert tf32[:3].tolist() == [1, 1 + 2 * 2**-10, 1 + 2**-10], "ties to even"
    assert ((values - tf32).abs() <= values.abs() * 2**-11).all()
    assert (tf32.view(torch.int32) & 0x1FFF == 0).all()
    assert rounded(torch.tensor([65_520.0]), "fp16").isinf().all(), "fp16 overflows"
    assert torch.equal(rounded(values, "bf16"), values.bfloat16().float())


def test_errors_grow_as_the_precision_shrinks(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", make_card("1x8-1x16-2x16"))
    path = bundle.path(bundle.checkpoint)
    batch = np.random.default_rng(0).normal(size=(8, 1, 32, 32)).astype(np.float32)
    exact = reference(path, batch)
    found = {p: distances(eager(path, batch, p), exact).max() for p in ("fp32", *EMULATED)}
    assert found["fp32"] < 1e-5 < found["fp16"] < found["bf16"] < 0.1
    assert 0.2 < found["tf32"] / found["fp16"] < 5


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_emulation_is_as_far_off_as_torchs_own_kernels(
    tiny_bundle: Bundle, precision: Precision
) -> None:
    import torch

    from vgg_deploy.model.checkpoint import load_model

    path = tiny_bundle.path(tiny_bundle.checkpoint)
    batch = np.random.default_rng(0).normal(size=(16, 1, 32, 32)).astype(np.float32)
    exact = reference(path, batch)
    kind = {"fp16": torch.float16, "bf16": torch.bfloat16}[precision]
    with torch.inference_mode():
        own = load_model(path).to(kind)(torch.from_numpy(batch).to(kind)).double().numpy()
    ours = distances(eager(path, batch, precision), exact)
    theirs = distances(own, exact)
    assert 0.5 < ours.max() / theirs.max() < 2


def test_stages_end_in_the_logits(tiny_bundle: Bundle) -> None:
    path = tiny_bundle.path(tiny_bundle.checkpoint)
    batch = np.random.default_rng(0).normal(size=(10, 1, 32, 32)).astype(np.float32)
    found = stages(path, batch)
    assert tuple(found) == stage_names(tiny_bundle.card.spec)
    assert tuple(found) == ("pool1", "pool2", "pool3", "fc6", "fc7", "fc8")
    np.testing.assert_array_equal(found["fc8"], reference(path, batch))
    assert (found["fc6"] < 0).any(), "before the ReLU"
    assert found["pool1"].shape == (10, 4 * 16 * 16)


def test_a_budget_needs_enough_images() -> None:
    assert images_needed(0.5) == 598  # (1 - 0.005)^598 < 0.05 <= (1 - 0.005)^597
    assert 0.995**598 < 0.05 <= 0.995**597
    int8 = TOLERANCES["int8"]
    require_labels(int8, 1_000, "")
    require_labels(TOLERANCES["fp16"], None, "no labels")
    with pytest.raises(RefusedInput, match="no number of images can show"):
        require_labels(VerifyOptions(max_top1_drop=0).tolerance("int8"), 10_000, "")
    with pytest.raises(RefusedInput, match="take"):
        require_labels(int8, 500, "")
    with pytest.raises(RefusedInput, match="all were trained on") as caught:
        require_labels(int8, None, "all were trained on")
    assert "that it was not trained on, without --no-accuracy" in caught.value.remedy


def test_a_budget_beside_a_model_that_learned_nothing_is_refused() -> None:
    labels = np.arange(1000) % 10
    guess = Answers(np.zeros(1000, np.int64), np.ones(1000, np.bool_))
    with pytest.raises(RefusedInput, match="proves nothing"):
        refuse_untrained(guess, labels, 0.5)
    refuse_untrained(Answers(labels, np.ones(1000, np.bool_)), labels, 0.5)


def test_accuracy_counts_what_was_lost_and_won() -> None:
    labels = np.arange(1000) % 10
    eager_first = labels.copy()
    eager_first[:50] = -1
    found_first = labels.copy()
    found_first[40:70] = (labels[40:70] + 1) % 10
    both = np.ones(1000, np.bool_)
    found = accuracy_of(
        Answers(found_first, both), Answers(eager_first, both), labels, 10, "sample"
    )
    assert (found.correct, found.lost, found.won, found.top5_lost) == (970, 20, 40, 0)
    assert found.drop == -2
    assert sum(map(sum, found.confusion)) == 1000
    assert confusion(labels, labels, 101) == ()
    low, high = found.drop_interval
    assert low < -2 < high < 0


@pytest.mark.parametrize(
    ("total", "lost", "won", "verdict", "said"),
    [
        (10_000, 19, 12, "equivalent", ""),  # of a run of the demo: 0.18 at 95 %
        (598, 0, 0, "equivalent", ""),
        (602, 4, 1, "failed", "by up to 1.35: 602 images do not show that it is within 0.50"),
        (1_000, 3, 1, "failed", "drops by 0.20 points, at 95 % by up to"),
        (1_000, 7, 1, "different", "drops by 0.60 points, more than 0.50"),
    ],
)
def test_what_is_judged_by_accuracy_has_to_show_it(
    total: int, lost: int, won: int, verdict: str, said: str
) -> None:
    found = Accuracy(
        dataset="x", split="test", correct=total - lost, total=total, lost=lost, won=won
    )
    got, reason = accuracy_verdict(found, TOLERANCES["int8"])
    assert (got, reason == "") == (verdict, said == "")
    assert said in reason
    close = accuracy_verdict(found, TOLERANCES["bf16"])[0]
    assert (close == "equivalent") == (verdict != "different"), "the interval is only told"


def test_one_image_is_no_finding_where_closeness_is_judged() -> None:
    one = Accuracy(dataset="x", split="test", correct=99, total=100, lost=1)
    assert judge_accuracy(one, TOLERANCES["fp32"])[0].ok
    assert not judge_accuracy(one, TOLERANCES["int8"])[0].ok
    asked = VerifyOptions(max_top1_drop=0.5).tolerance("fp32")
    assert judge_accuracy(one, asked)[0].limit == 0.5, "a budget that was given is not loosened"
    assert not judge_accuracy(one, asked)[0].ok
    assert "asked" not in as_numbers(asked)
    assert not math.isfinite(TOLERANCES["int8"].rel_l2_floor)


def test_a_stored_limit_of_the_spread_is_the_one_that_is_judged_by() -> None:
    for tolerance in TOLERANCES.values():
        told = as_numbers(tolerance).get("batch_spread")
        for own in (0.0, 2e-3):
            eager = far(own, 1e-2)
            judged = limits(eager, tolerance, scale=1.0)["batch_spread"]
            assert told in (None, judged)
        assert (told is not None) == tolerance.by_accuracy


def far(rel_l2: float, max_abs: float) -> Errors:
    return Errors(
        max_abs=max_abs,
        rel_l2=rel_l2,
        cosine=1.0,
        kl=0.0,
        top1_flips=0,
        unexcused_flips=0,
        top5_agreement=1.0,
        worst_image=0,
    )


ROUND = Tolerance(
    k=3,
    rel_l2_floor=0.01,
    max_abs_floor=0.02,
    rel_l2_ceiling=0.1,
    top1_drop=0.5,
    batch_spread=0.01,
)


@pytest.mark.parametrize(
    ("eager", "relative", "absolute"),
    [
        (far(0.002, 0.005), 0.01, 0.08),  # both floors: 0.02 of logits with an rms of 4
        (far(0.02, 0.05), 0.06, 0.15),  # three times torch eager's
        (far(0.05, 0.05), 0.1, 0.15),  # the ceiling
    ],
)
def test_limits_are_k_times_eager_between_a_floor_and_a_ceiling(
    eager: Errors, relative: float, absolute: float
) -> None:
    found = limits(eager, ROUND, scale=4)
    assert found["rel_l2"] == found["batch_spread"] == pytest.approx(relative)
    assert found["max_abs"] == pytest.approx(absolute)


@pytest.mark.parametrize(
    ("found", "spread", "bad"),
    [
        (far(0.0599, 0.1499), 0.0599, []),
        (far(0.0601, 0.1499), 0.0599, ["rel_l2"]),
        (far(0.0599, 0.1501), 0.0599, ["max_abs"]),
        (far(0.0599, 0.1499), 0.0601, ["batch_spread"]),
    ],
)
def test_just_within_k_times_eager_passes_and_just_beyond_does_not(
    found: Errors, spread: float, bad: list[str]
) -> None:
    figures = judge(found, far(0.02, 0.05), ROUND, scale=4, spread=spread)
    assert [f.name for f in figures if not f.ok] == bad


def test_nan_is_never_an_answer() -> None:
    """Image 0 has its label first beside a NaN; images 1 and 2 are finite."""
    logits = np.tile(np.arange(8.0), (3, 1))
    logits[0, 0] = np.nan
    images, labels = np.zeros((3, 8, 8, 1), np.uint8), np.array([7, 7, 0])
    given = make_card(size=8, channels=1).preprocessing
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 1, 8, 8), layout="NCHW")
    got = answers(lambda batch: logits[: len(batch)], images, labels, given, spec, batch=3)
    assert got.first.tolist() == [-1, 7, 7]
    assert got.in_top.tolist() == [False, True, False]
    assert confusion(got.first, labels, 8)[7][7] == 1, "no cell has the image without an answer"
