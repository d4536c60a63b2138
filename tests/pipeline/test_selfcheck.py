"""selfcheck names the mistake that was planted; the planted apps share no code with its table."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import make_card
from tests.export.networks import lively_bundle
from tests.pipeline.foreign_apps import (
    PLANTED,
    PLANTED_WITH_CROP,
    RESIZE,
    RIGHT,
    RIGHT_WITH_CROP,
    SIZE,
    Network,
    Outputs,
    normal,
    plain,
    resized,
)
from tests.pipeline.judging import judged, made, written
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.golden import AppOutput, AppResults, load_image, load_index
from vgg_deploy.model.checkpoint import load_model
from vgg_deploy.model.vgg import VGG
from vgg_deploy.verify.diagnose import diagnose
from vgg_deploy.verify.mistakes import INPUT_MISTAKES, OUTPUT_MISTAKES, Floats
from vgg_deploy.verify.selfcheck import judge_results


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return made(tmp_path_factory.mktemp("app"))


@pytest.fixture(scope="module")
def cropping(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return made(tmp_path_factory.mktemp("crop"), resize=RESIZE)


@pytest.fixture(scope="module")
def network(bundle: Bundle) -> VGG:
    return load_model(bundle.path(bundle.checkpoint))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "does not hold the app's results: "),
        (b"[]", "does not hold the app's results: "),
        (b"\x89PNG\r\n\x1a\n", "does not hold the app's results: "),
        (b"", "the app's results FILE is empty"),
        (None, "the app's results FILE does not exist"),
    ],
)
def test_a_file_that_holds_no_results_is_the_apps_to_mend(
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    told: str,
) -> None:
    results = tmp_path / "out.json"
    if content is not None:
        results.write_bytes(content)
    code, _, err = judged(bundle, results, capsys)
    said = " ".join(err.split()).replace(str(results), "FILE")
    assert code == 3
    assert told in said
    assert "AppResults" not in said
    assert "with vgg-deploy" not in said
    assert ("have the app write JSON" in said) == bool(content)


def test_a_right_app_passes(
    bundle: Bundle, network: VGG, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = written(bundle, network, RIGHT, tmp_path / "out.json")
    code, found, _ = judged(bundle, results, capsys)
    assert (code, found["verdict"]) == (0, "equivalent")
    assert not found["suspects"]
    assert len(found["images"]) == 12
    assert main(["selfcheck", str(bundle.root), "--results", str(results)]) == 0
    assert "12 pass, 0 do not" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*PLANTED, *PLANTED_WITH_CROP])
def test_the_planted_mistake_is_named(
    request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with_crop = name in PLANTED_WITH_CROP
    bundle: Bundle = request.getfixturevalue("cropping" if with_crop else "bundle")
    network = load_model(bundle.path(bundle.checkpoint))
    app = (PLANTED_WITH_CROP if with_crop else PLANTED)[name]
    results = written(bundle, network, app, tmp_path / "out.json")
    code, found, said = judged(bundle, results, capsys)
    assert code == 7
    best = found["suspects"][0]
    assert (found["explained"], best["name"]) == (True, name)
    assert best["residual"] < 0.02
    assert found["suspects"][1]["residual"] > 5 * best["residual"]
    assert f"likely cause: {best['cause']}" in said


def test_every_mistake_that_is_known_is_planted() -> None:
    known = {*INPUT_MISTAKES, *OUTPUT_MISTAKES, "classes-reordered", "images-mixed-up"}
    assert {*PLANTED, *PLANTED_WITH_CROP} == known


def test_a_right_app_with_a_crop_passes(
    cropping: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = load_model(cropping.path(cropping.checkpoint))
    results = written(cropping, network, RIGHT_WITH_CROP, tmp_path / "out.json")
    assert judged(cropping, results, capsys)[0] == 0


def test_golden_vectors_of_other_weights(
    bundle: Bundle, network: VGG, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = lively_bundle(tmp_path / "other", bundle.card, seed=1)

    def copied(folder: Path) -> None:
        shutil.copytree(bundle.golden_folder, folder, dirs_exist_ok=True)

    other.add_golden({}, copied)
    results = written(bundle, network, RIGHT, tmp_path / "out.json")
    code, found, said = judged(other, results, capsys)
    assert (code, list(found)) == (5, ["error"])
    assert f"the golden vectors in {other.root} are those of other weights" in said
    assert f"vgg-deploy export {other.root} --format onnx" in said


def test_without_torch_no_cause_is_named(bundle: Bundle, network: VGG, tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from vgg_deploy.cli import main; "
    command = [sys.executable, "-c", f"{code} sys.exit(main())", "selfcheck", str(bundle.root)]
    for app, ends in ((RIGHT, 0), (PLANTED["bgr"], 7)):
        results = written(bundle, network, app, tmp_path / "out.json")
        done = subprocess.run(
            [*command, "--results", str(results), "--json"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == ends, done.stderr
        found = json.loads(done.stdout)
        assert found["suspects"] == []
        assert "no known mistake explains it" not in done.stderr
    assert "the cause is not looked for, torch is not installed" in done.stderr


def test_an_unknown_mistake_gets_no_name(
    bundle: Bundle, network: VGG, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def noisy(net: Network, image: torch.Tensor) -> Outputs:
        return plain(net(normal(resized(image) / 255) + torch.randn(1, 3, SIZE, SIZE)))

    torch.manual_seed(0)
    results = written(bundle, network, noisy, tmp_path / "out.json")
    code, found, said = judged(bundle, results, capsys)
    assert code == 7
    assert not found["explained"]
    assert "no known mistake explains it" in said


def test_half_precision_is_told(
    bundle: Bundle, network: VGG, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def half(net: Network, image: torch.Tensor) -> Outputs:
        x = normal(resized(image) / 255)
        return plain(net(x).half().float() * 1.002)

    results = written(bundle, network, half, tmp_path / "out.json")
    code, found, said = judged(bundle, results, capsys)
    assert (code, found["within"]) == (7, "fp16")
    assert "compute in fp16" in said
    results = written(bundle, network, half, tmp_path / "out.json", precision="fp16")
    assert judged(bundle, results, capsys)[0] == 0


def test_probabilities_alone_are_enough(
    bundle: Bundle, network: VGG, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(bundle, network, PLANTED["bgr"], tmp_path / "out.json")
    document = json.loads(path.read_text())
    for image in document["images"]:
        del image["logits"]
    path.write_text(json.dumps(document))
    code, found, _ = judged(bundle, path, capsys)
    assert (code, found["suspects"][0]["name"], found["explained"]) == (7, "bgr", True)


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (lambda d: d["images"].pop(), 7, "not given"),
        (lambda d: d["images"][0]["logits"].pop(), 7, "9 logits for 10 classes"),
        (lambda d: d["images"][0]["logits"].__setitem__(0, None), 7, "not finite"),
        (lambda d: d["images"][0].update(name="cat"), 3, "'cat'"),
        (lambda d: d["images"].append(d["images"][0]), 3, "twice"),
        (lambda d: d.update(images=[]), 3, "no image"),
        (lambda d: d.update(version=2), 3, "version 2"),
        (lambda d: d.update(version=2, pictures=d.pop("images")), 3, "version 2"),
        (lambda d: d.update(format="other"), 3, "format"),
        (lambda d: d.update(precision="fp12"), 3, "precision"),
        (lambda d: d["images"][0].update(logits=None, probabilities=None), 3, "neither"),
        (lambda d: d["images"][0].update(logits="x"), 3, "logits"),
    ],
)
def test_results_that_are_incomplete_or_not_in_the_format(
    bundle: Bundle,
    network: VGG,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[dict[str, Any]], object],
    code: int,
    said: str,
) -> None:
    path = written(bundle, network, RIGHT, tmp_path / "out.json")
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    exit_code, found, err = judged(bundle, path, capsys)
    assert exit_code == code
    assert said in err
    assert "compute in" not in err
    if code == 7:
        assert (found["suspects"], found["within"]) == ([], None)
        assert "no cause can be named" in err


def test_what_would_fail_in_half_too_is_not_called_half(
    bundle: Bundle, network: VGG, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def half(net: Network, image: torch.Tensor) -> Outputs:
        return plain(net(normal(resized(image) / 255)) * 1.003)

    path = written(bundle, network, half, tmp_path / "out.json")
    assert judged(bundle, path, capsys)[1]["within"] == "fp16"
    document = json.loads(path.read_text())
    document["images"][0]["logits"][0] = None  # its probabilities are there and fine
    path.write_text(json.dumps(document))
    code, found, err = judged(bundle, path, capsys)
    assert (code, found["within"]) == (7, None)
    assert "compute in" not in err


def test_the_reference_itself_with_an_image_left_out(
    bundle: Bundle, network: VGG, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(bundle, network, RIGHT, tmp_path / "out.json")
    document = json.loads(path.read_text())
    index = json.loads((bundle.root / "golden" / "index.json").read_text())
    for image, reference in zip(document["images"], index["images"], strict=True):
        image["logits"] = reference["logits"]
        image["probabilities"] = reference["probabilities"]
    document["images"].pop()
    path.write_text(json.dumps(document))
    code, found, err = judged(bundle, path, capsys)
    assert (code, found["suspects"]) == (7, [])
    assert "inf" not in err


def test_a_precision_that_was_told_is_not_proposed_again(
    bundle: Bundle, network: VGG, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def coarse(net: Network, image: torch.Tensor) -> Outputs:
        return plain(net(normal(resized(image) / 255)) * 1.03)

    results = written(bundle, network, coarse, tmp_path / "out.json", precision="fp16")
    code, found, err = judged(bundle, results, capsys)
    assert (code, found["within"]) == (7, "bf16")
    assert "compute in bf16" in err


def test_no_results_or_no_golden_vectors(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judged(bundle, tmp_path / "absent.json", capsys)[0] == 3
    other = lively_bundle(tmp_path / "other", make_card())
    code, _, err = judged(other, tmp_path / "absent.json", capsys)
    assert code == 3
    assert "no golden vectors" in err


def test_one_mistake_after_the_other_is_held(bundle: Bundle) -> None:
    """All at once would take gigabytes for a large network."""
    index = load_index(bundle.golden_folder)
    outputs = tuple(AppOutput(name=i.name, logits=(0.0,) * 10) for i in index.images)
    results = AppResults(images=outputs)
    told, alive = [], 0

    def network(blocks: Iterable[Floats], images: int) -> Iterator[Floats]:
        nonlocal alive
        held: list[weakref.ref[Floats]] = []
        for block in blocks:
            told.append(len(block))
            held.append(weakref.ref(block))
            alive = max(alive, sum(kept() is not None for kept in held))
            yield np.zeros((len(block), 10))
        assert images == sum(told)

    diagnose(
        judge_results(index, results),
        index,
        results,
        lambda image: load_image(bundle.golden_folder, image),
        network,
    )
    assert len(told) > 20
    assert set(told) == {12}
    assert alive <= 2  # the one that is run, and the next
