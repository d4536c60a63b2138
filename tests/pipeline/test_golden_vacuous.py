"""Golden vectors of a network that hardly depends on its image judge nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.export.networks import bundle_with, lively_bundle, named
from vgg_deploy import stored
from vgg_deploy.artifact import Precision
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import RefusedInput
from vgg_deploy.golden import (
    AppOutput,
    AppResults,
    GoldenIndex,
    GoldenTolerance,
    load_index,
    refuse_vacuous,
)
from vgg_deploy.model.vgg import VGG
from vgg_deploy.pipeline.golden import make_golden, tolerances_for
from vgg_deploy.pipeline.machine_cells import golden
from vgg_deploy.report.standing import verdict_mark
from vgg_deploy.results import VERIFY_FILE, VerifyReport
from vgg_deploy.verify.compare import softmax
from vgg_deploy.verify.diagnose import diagnose
from vgg_deploy.verify.selfcheck import judge_results


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A VGG-11 with torch's own initial weights: its logits are the biases."""
    card = named("vgg11")
    card = replace(card, labels=tuple("abcdefghij"))
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("collapsed") / "bundle"
    bundle_with(root, card, VGG(card.spec).state_dict())
    words = ["--format", "onnx", "--embedded", "--precision", "fp32", "--precision", "fp16"]
    assert main(["export", str(root), *words]) == 0  # the refusal is of judging
    assert main(["export", str(root), "--format", "onnx", "--precision", "fp16"]) == 0
    return open_bundle(root)


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> GoldenIndex:
    bundle = make_golden(
        lively_bundle(tmp_path_factory.mktemp("lively") / "bundle", named("vgg11"))
    )
    return load_index(bundle.golden_folder)


def first_for_all(index: GoldenIndex, precision: Precision) -> AppResults:
    answer = index.images[0].logits
    outputs = tuple(AppOutput(name=image.name, logits=answer) for image in index.images)
    return AppResults(precision=precision, images=outputs)


@pytest.mark.parametrize("precision", ["tf32", "fp16", "bf16", "int8", "fp8"])
def test_selfcheck_refuses_what_would_pass_anything(
    collapsed: Bundle, precision: Precision, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = load_index(collapsed.golden_folder)
    images = [{"name": i.name, "logits": index.images[0].logits} for i in index.images]
    document: dict[str, Any] = {"format": "vgg-deploy golden results", "version": 1}
    document |= {"precision": precision, "images": images}
    path = tmp_path / "out.json"
    path.write_text(json.dumps(document))
    assert main(["selfcheck", str(collapsed.root), "--results", str(path)]) == 3
    said = capsys.readouterr().err
    assert f"no yardstick at {precision}" in said
    assert "check the checkpoint's weights" in said


def test_a_finer_precision_is_judged_and_no_coarser_one_proposed(collapsed: Bundle) -> None:
    index = load_index(collapsed.golden_folder)
    results = first_for_all(index, "fp32")
    found = judge_results(index, results)
    assert found.verdict == "different"

    def pixels(_: object) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.zeros((1, 4, 4, 3), np.uint8)

    told = diagnose(
        found,
        index,
        results,
        pixels,
        lambda blocks, _: [np.zeros((len(block), 10)) for block in blocks],
    )
    assert told.within is None


def test_a_check_of_a_machine_calls_it_failed_and_bench_says_why(collapsed: Bundle) -> None:
    report, error = golden("ort-cpu", collapsed.root, "fp16", [1])
    (row,) = (row for row in report.rows if row.subject.artifact == "model.fp16.onnx")
    assert row.verdict == "failed"
    assert "no yardstick at fp16" in row.reason
    assert error is not None
    assert "no yardstick at fp16" in error.cause
    kept = stored.load(VerifyReport, collapsed.root / VERIFY_FILE)
    assert "no yardstick at fp16" in verdict_mark(row.subject, kept, kept.environment)


def test_an_app_whose_test_would_pass_anything_is_not_written(
    collapsed: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", str(collapsed.root), "--target", "python", "-o", str(tmp_path / "app")]
    assert main([*words, "--precision", "fp16"]) == 3
    assert "no yardstick at fp16" in capsys.readouterr().err
    assert not (tmp_path / "app").exists()
    assert main(words) == 0  # fp32's bound is a twentieth of what the images make


Alike = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (lambda x: x, False),
        (lambda x: np.where(np.arange(len(x))[:, None] == 0, x, np.median(x, axis=0)), True),
        (lambda x: 0 * x + x[0], True),
    ],
)
def test_the_odd_image_alone_makes_no_yardstick(
    lively: GoldenIndex, change: Alike, refused: bool
) -> None:
    logits = change(np.array([image.logits for image in lively.images]))
    images = tuple(
        replace(image, logits=tuple(row))
        for image, row in zip(lively.images, logits.tolist(), strict=True)
    )
    index = replace(lively, images=images)
    for precision in lively.tolerances:
        if refused:
            with pytest.raises(RefusedInput, match="no yardstick"):
                refuse_vacuous(index, precision)
        else:
            refuse_vacuous(index, precision)


@pytest.mark.parametrize(("share", "refused"), [(0.98, True), (1.02, False)])
def test_one_answer_within_the_bound_of_every_image(
    lively: GoldenIndex, share: float, refused: bool
) -> None:
    """The best single answer is the middle of each class's range."""
    logits = np.array([image.logits for image in lively.images])
    half = float(np.ptp(logits, axis=0).max() / 2)
    bound = GoldenTolerance(logits=half / share, probabilities=1)
    index = replace(lively, tolerances={**lively.tolerances, "int8": bound})
    middle = tuple(((logits.max(axis=0) + logits.min(axis=0)) / 2).tolist())
    answers = tuple(AppOutput(name=image.name, logits=middle) for image in lively.images)
    results = AppResults(precision="int8", images=answers)
    if refused:
        with pytest.raises(RefusedInput, match="no yardstick at int8"):
            judge_results(index, results)
    else:
        assert judge_results(index, results).verdict == "different"


def louder(index: GoldenIndex, factor: float) -> GoldenIndex:
    """The same with all logits ``factor`` times as large."""
    logits = factor * np.array([image.logits for image in index.images])
    images = tuple(
        replace(
            image,
            logits=tuple(row),
            probabilities=tuple(softmax(np.array([row]))[0].tolist()),
            margin=factor * image.margin,
        )
        for image, row in zip(index.images, logits.tolist(), strict=True)
    )
    return replace(index, images=images, tolerances=tolerances_for(logits))


@pytest.mark.parametrize("factor", [1, 3, 10])
@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_uniform_probabilities_never_pass(
    lively: GoldenIndex, precision: Precision, factor: float
) -> None:
    index = louder(lively, factor)
    uniform = (1 / len(index.labels),) * len(index.labels)
    alone = tuple(AppOutput(name=image.name, probabilities=uniform) for image in index.images)
    with pytest.raises(RefusedInput, match="hold only probabilities") as refused:
        judge_results(index, AppResults(precision=precision, images=alone))
    assert refused.value.remedy == "write the logits, too"
    assert judge_results(index, AppResults(images=alone)).verdict == "different"  # fp32
    right = tuple(AppOutput(name=image.name, logits=image.logits) for image in index.images)
    found = judge_results(index, AppResults(precision=precision, images=right))
    assert found.verdict == "equivalent"
