"""Golden vectors: right answers, readable with a JSON parser alone, guarded by digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import make_card
from tests.export.networks import lively_bundle
from tests.refitted import refit_golden
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.data.patterns import falls_short
from vgg_deploy.errors import DigestMismatch, RefusedInput
from vgg_deploy.golden import INDEX, load_image, load_index
from vgg_deploy.model.checkpoint import load_model
from vgg_deploy.pipeline.golden import golden_images, make_golden, tolerances_for
from vgg_deploy.spec import ModelCard


@pytest.fixture
def colour_bundle(tmp_path: Path) -> Bundle:
    return make_golden(lively_bundle(tmp_path / "bundle", make_card(channels=3)))


def test_answers_are_those_of_torch_and_its_own_resize(colour_bundle: Bundle) -> None:
    """An independent road: only json, bytes, and torch's antialiased resize in float64."""
    index = json.loads((colour_bundle.root / "golden" / "index.json").read_text())
    network = load_model(colour_bundle.path(colour_bundle.checkpoint)).double()
    p = index["preprocessing"]
    seen = set()
    for image in index["images"]:
        content = (colour_bundle.root / "golden" / image["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == image["sha256"]
        shape = (1, image["height"], image["width"], image["channels"])
        x = torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(shape)
        x = x.permute(0, 3, 1, 2).double()
        x = torch.nn.functional.interpolate(x, (32, 32), mode="bilinear", antialias=True) / 255
        mean, std = (
            torch.tensor(p[k], dtype=torch.float64)[:, None, None] for k in ("mean", "std")
        )
        with torch.no_grad():
            logits = network((x - mean) / std)[0]
        np.testing.assert_allclose(image["logits"], logits, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(image["probabilities"], logits.softmax(0), rtol=1e-8, atol=1e-9)
        assert image["top1"] == int(logits.argmax())
        first, second = logits.sort(descending=True).values[:2]
        assert image["margin"] == pytest.approx(float(first - second), rel=1e-6)
        seen.add((image["height"], image["width"]))
    assert {(1, 1), (32, 32), (5, 640), (640, 3), (24, 32), (28, 28)} <= seen
    assert any(h > 32 and w > h for h, w in seen)
    assert any(w > 32 and h > w for h, w in seen)


@pytest.mark.parametrize(("size", "channels", "limit"), [(224, 3, 1.3e6), (64, 1, 60e3)])
def test_images_are_small_and_the_same_each_time(size: int, channels: int, limit: float) -> None:
    card = make_card(size=size, channels=channels)
    once, twice = dict(golden_images(card)), dict(golden_images(card))
    assert sum(image.nbytes for image in once.values()) < limit
    for name, image in once.items():
        np.testing.assert_array_equal(image, twice[name])
        assert image.shape[2] == channels
    assert not once["all-0"].any()
    assert once["all-255"].min() == 255


@pytest.mark.parametrize(("size", "resize"), [(224, 256), (448, 512), (320, 366), (64, None)])
def test_images_called_downscaled_are(size: int, resize: int | None) -> None:
    card = make_card(size=size, channels=3)
    card = replace(card, preprocessing=replace(card.preprocessing, resize=resize))
    images = dict(golden_images(card))
    for name in ("landscape-downscaled", "portrait-downscaled"):
        short = min(images[name].shape[:2])
        assert short > (resize or size), images[name].shape
        assert resize is None or falls_short(short, resize), images[name].shape


def test_probability_bound_follows_from_the_logit_bound() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (200, 10))
    for bound in tolerances_for(logits).values():
        moved = logits + random.choice([-1, 1], logits.shape) * bound.logits
        both = [np.exp(v) / np.exp(v).sum(axis=1, keepdims=True) for v in (logits, moved)]
        assert np.abs(both[0] - both[1]).max() <= bound.probabilities


def test_kept_while_valid_and_made_again_when_not(colour_bundle: Bundle) -> None:
    index = colour_bundle.golden_folder / INDEX
    before = index.stat().st_mtime_ns
    assert make_golden(colour_bundle).manifest == colour_bundle.manifest
    assert index.stat().st_mtime_ns == before
    (colour_bundle.golden_folder / "real-0.raw").write_bytes(b"x")
    made = make_golden(colour_bundle)
    assert made.golden_problem() is None
    assert made.manifest == colour_bundle.manifest
    assert open_bundle(made.root).manifest == made.manifest


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("real-0.raw", b"short", "has 5 bytes instead of 2,352"),
        ("real-1.raw", bytes(28 * 28 * 3), "was changed"),
        ("real-2.raw", None, "is missing"),
        ("index.json", b"{}", "was changed"),
        ("index.json", None, "is missing"),
    ],
)
def test_a_changed_file_is_a_digest_mismatch(
    colour_bundle: Bundle, file: str, change: bytes | None, said: str
) -> None:
    path = colour_bundle.golden_folder / file
    path.unlink() if change is None else path.write_bytes(change)
    with pytest.raises(DigestMismatch, match=said):
        colour_bundle.check()


def test_an_index_that_points_elsewhere_or_is_of_another_version(colour_bundle: Bundle) -> None:
    folder = colour_bundle.golden_folder
    index = load_index(folder)
    with pytest.raises(RefusedInput, match="no plain file name"):
        replace(index.images[0], file="../model.fp32.onnx")
    with pytest.raises(DigestMismatch, match="is missing"):
        load_image(folder, replace(index.images[0], file=".."))
    text = (folder / INDEX).read_text().replace('"version": 1', '"version": 9')
    (folder / INDEX).write_text(text)
    with pytest.raises(RefusedInput, match="version 9"):
        load_index(folder)
    (folder / INDEX).write_text(text.replace('"images"', '"pictures"'))
    with pytest.raises(RefusedInput, match="version 9"):
        load_index(folder)
    with pytest.raises(RefusedInput, match="no golden vectors"):
        load_index(folder / "nowhere")


def test_other_weights_take_their_golden_vectors_with_them(tmp_path: Path) -> None:
    card: ModelCard = make_card()
    bundle = make_golden(lively_bundle(tmp_path, card))
    assert bundle.golden_folder.is_dir()
    other = lively_bundle(tmp_path, card, seed=1)
    assert other.manifest.golden is None
    assert not other.golden_folder.exists()


def test_export_makes_them(tmp_path: Path) -> None:
    bundle = lively_bundle(tmp_path, make_card())
    assert main(["export", str(tmp_path), "--format", "torchscript"]) == 0
    opened = open_bundle(tmp_path)
    assert opened.golden_problem() is None
    index = load_index(opened.golden_folder)
    assert index.weights_sha256 == bundle.checkpoint.sha256
    assert load_image(opened.golden_folder, index.images[0]).shape == (1, 28, 28, 1)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda index: index["images"][3].update(logits=[]), "does not answer for 10 classes"),
        (lambda index: index["images"][3]["probabilities"].pop(), "does not answer for 10"),
        (lambda index: index["images"][0].update(top1=10), "does not answer for 10 classes"),
        (lambda index: index["images"][0].update(height=0), "should be at least 1"),
        (lambda index: index["images"][0].update(margin=1e308), "should be at most 1e+100"),
        (lambda index: index.update(images=[]), "should have at least 1 item"),
        (lambda index: index["tolerances"].pop("bf16"), "it has no bound for bf16"),
    ],
)
def test_an_index_that_does_not_fit_itself_is_made_again(
    tmp_path: Path,
    change: Callable[[Any], object],
    cause: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "bundle"
    make_golden(lively_bundle(root, make_card()))
    refit_golden(root, change)
    results = tmp_path / "out.json"
    results.touch()
    for words in (["inspect", str(root)], ["selfcheck", str(root), "--results", str(results)]):
        assert main(words) == 4
        said = " ".join(capsys.readouterr().err.split())
        assert "does not hold a valid golden index: " in said
        assert cause in said
        assert f"vgg-deploy export {root}" in said
    make_golden(open_bundle(root))
    assert main(["inspect", str(root)]) == 0
