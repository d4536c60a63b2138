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
from vgg_deploy.artifact import PRECISIONS, Precision
from vgg_deploy.backends.reference import EMULATED, eager, reference, rounded, stage_names, stages
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import RefusedInput
from vgg_deploy.pipeline.verify_cells import VerifyOptions
from vgg_deploy.results import Accuracy
from vgg_deploy.verify.accuracy import Answers, accuracy_of, confusion, refuse_untrained
from vgg_deploy.verify.compare import distances
from vgg_deploy.verify.tolerance import (
    TOLERANCES,
    as_numbers,
    images_needed,
    judge_accuracy,
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
    for precision, limits in TOLERANCES.items():
        (row,) = re.findall(rf"^\| {precision} \|(.*)\|$", text, re.MULTILINE)
        numbers = [float(cell) for cell in row.split("|") if cell.strip() not in ("", "–")]
        wanted = as_numbers(limits)
        del wanted["batch_spread"]
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
    assert tuple(found) == stage_names(3) == ("pool1", "pool2", "pool3", "fc6", "fc7", "fc8")
    np.testing.assert_array_equal(found["fc8"], reference(path, batch))
    assert (found["fc6"] < 0).any(), "before the ReLU"
    assert found["pool1"].shape == (10, 4 * 16 * 16)


def test_a_budget_needs_enough_images() -> None:
    assert images_needed(0.5) == 598  # (1 - 0.005)^598 < 0.05 <= (1 - 0.005)^597
    assert 0.995**598 < 0.05 <= 0.995**597
    int8 = TOLERANCES["int8"]
    require_labels(int8, 1_000, "")
    require_labels(TOLERANCES["fp16"], None, "no labels")
    with pytest.raises(RefusedInput, match="take"):
        require_labels(int8, 500, "")
    with pytest.raises(RefusedInput, match="no labels"):
        require_labels(int8, None, "no labels")


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


def test_one_image_is_no_finding_where_closeness_is_judged() -> None:
    one = Accuracy(dataset="x", split="test", correct=99, total=100, lost=1)
    assert judge_accuracy(one, TOLERANCES["fp32"])[0].ok
    assert not judge_accuracy(one, TOLERANCES["int8"])[0].ok
    asked = VerifyOptions(max_top1_drop=0.5).tolerance("fp32")
    assert judge_accuracy(one, asked)[0].limit == 0.5, "a budget that was given is not loosened"
    assert not judge_accuracy(one, asked)[0].ok
    assert "asked" not in as_numbers(asked)
    assert not math.isfinite(TOLERANCES["int8"].rel_l2_floor)
