"""Which images int8 and fp8 are measured on, and what is recorded of them."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import photos
from tests.precision.conftest import OPTIONS
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.data import fashion_mnist, sources
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.fashion_mnist import load_dataset
from vgg_deploy.data.images import to_channels
from vgg_deploy.errors import RefusedInput, UsageError
from vgg_deploy.manifest import save_manifest
from vgg_deploy.precision import CalibrationOptions, convert, quantize
from vgg_deploy.precision.calibration import BATCH, batches, calibration_set, source_of
from vgg_deploy.precision.convert import completed, images_to_run


def test_other_images_make_another_file(bundle: Bundle) -> None:
    bundle, first, _ = convert(bundle, "int8", OPTIONS)
    fewer = CalibrationOptions(data="sample", images=8)
    bundle, second, reused = convert(bundle, "int8", fewer)
    assert not reused
    assert second.sha256 != first.sha256
    assert [a.path for a in bundle.artifacts].count(first.path) == 1


def test_what_was_calibrated_under_another_preprocessing_is_made_again(bundle: Bundle) -> None:
    """Under an edited manifest, which was not noticed once; older files do not say what it was."""
    p = bundle.card.preprocessing
    edited = with_card(bundle, preprocessing=replace(p, mean=(0.9,) * p.channels))
    wrong, made, _ = convert(edited, "int8", OPTIONS)
    silent = dict(made.made_by)
    del silent["calibration_preprocessing"]
    for made_by in (made.made_by, silent):
        told = replace(made, made_by=made_by)
        artifacts = tuple(told if a.path == made.path else a for a in wrong.artifacts)
        restored = replace(wrong.manifest, card=bundle.card, artifacts=artifacts)
        save_manifest(bundle.root, restored)
        bundle, again, reused = convert(open_bundle(bundle.root), "int8", OPTIONS)
        assert not reused
        assert again.sha256 != made.sha256
        assert convert(bundle, "int8", OPTIONS)[2]


def test_the_better_calibration_is_kept_and_said(bundle: Bundle) -> None:
    made_by = convert(bundle, "int8", OPTIONS)[1].made_by
    pairs = (entry.split() for entry in made_by["calibration_divergence"].split(", "))
    compared = {name: float(value) for name, value in pairs}
    assert set(compared) == {"entropy", "max"}
    assert made_by["calibration"] == min(compared, key=lambda name: compared[name])
    assert made_by["calibration_data"] == "sample train"


def test_a_file_measured_on_a_stand_in_is_made_again_when_the_data_are_there(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stand-in for a machine without Fashion-MNIST is the sample under its name."""
    own = with_card(bundle, dataset="fashion-mnist")
    monkeypatch.setattr(fashion_mnist, "find_fashion_mnist", lambda *_: None)
    eight = CalibrationOptions(images=32)
    own, first, _ = convert(own, "int8", eight)
    assert first.made_by["calibration_data"] == "sample train"
    assert convert(own, "int8", eight)[2], "as long as there is nothing better"
    sample = load_dataset("sample")
    full = replace(sample, name="fashion-mnist")
    monkeypatch.setattr(fashion_mnist, "find_fashion_mnist", lambda *_: Path("here"))
    monkeypatch.setattr(sources, "load_dataset", lambda *_: full)
    named = CalibrationOptions(data="fashion-mnist", images=32)
    for options in (eight, named):
        own, second, reused = convert(own, "int8", options)
        assert second.made_by["calibration_data"] == "fashion-mnist train"
        assert reused == (options is named)
    monkeypatch.setattr(fashion_mnist, "find_fashion_mnist", lambda *_: None)
    assert convert(own, "int8", eight)[2], "the model's own data were better"


def test_a_model_of_the_sample_is_measured_on_it_unless_told(
    bundle: Bundle, tmp_path: Path
) -> None:
    card = with_card(bundle, dataset="sample").card
    assert source_of(card, CalibrationOptions()) == "sample"
    assert source_of(card, CalibrationOptions(data_dir=tmp_path)) == "auto"
    assert source_of(card, CalibrationOptions(data="fashion-mnist")) == "fashion-mnist"


def test_calibration_never_sees_a_test_image(bundle: Bundle) -> None:
    chosen = calibration_set(bundle.card, CalibrationOptions(data="sample", images=500))
    sample = load_dataset("sample")
    test = {image.tobytes() for image in to_channels(sample.test.images, 3)}
    train = {image.tobytes() for image in to_channels(sample.train.images, 3)}
    measured = {image.tobytes() for image in chosen.measured}
    held_out = {image.tobytes() for image in chosen.held_out}
    assert len(measured) == len(held_out) == 500
    assert measured | held_out <= train
    assert not (measured | held_out) & test
    assert not measured & held_out


def test_a_model_of_unknown_data_wants_to_be_told(bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="does not say which data set") as caught:
        convert(bundle, "int8")
    assert "--calibration-data" in caught.value.remedy
    assert convert(bundle, "fp16")[1].made_by["calibration_data"] == "sample train"


def test_a_folders_training_images_calibrate(bundle: Bundle, tmp_path: Path) -> None:
    own = with_card(bundle, dataset="folder photos")
    with pytest.raises(UsageError, match="trained on folder photos") as caught:
        convert(own, "int8")
    assert "--calibration-data PATH" in caught.value.remedy
    options = CalibrationOptions(data=str(photos(tmp_path / "photos", 1)), images=12)
    own, made, _ = convert(own, "int8", options)
    assert made.made_by["calibration_data"] == "folder photos train"
    own, _, reused = convert(own, "int8", options)
    assert reused
    photos(tmp_path / "photos", 2)  # other images of the same names
    own, other, reused = convert(own, "int8", options)
    assert not reused
    assert other.made_by["calibration_digest"] != made.made_by["calibration_digest"]
    half = convert(own, "fp16", CalibrationOptions(images=12))[1].made_by
    assert half["range_measured_on"].startswith("sample train, not known")
    assert "range_measured_on" not in convert(own, "fp16", options)[1].made_by
    clothes = with_card(own, dataset="fashion-mnist")
    few = CalibrationOptions(data="sample", images=12)
    assert "range_measured_on" not in convert(clothes, "fp16", few)[1].made_by


@pytest.mark.parametrize("inside", ["cat", "."])
def test_images_without_classes_calibrate(bundle: Bundle, tmp_path: Path, inside: str) -> None:
    """All of them: there is nothing to be tested with."""
    root = photos(tmp_path / "photos", 1)
    (root / "dog").rename(tmp_path / "dog")
    options = CalibrationOptions(data=str(root / inside), images=12)
    chosen = calibration_set(bundle.card, options)
    assert chosen.source == f"folder {'photos' if inside == '.' else 'cat'} train"
    assert len({image.tobytes() for image in (*chosen.measured, *chosen.held_out)}) == 24
    with pytest.raises(RefusedInput, match="has 25 for training"):
        calibration_set(bundle.card, replace(options, images=13))
    (tmp_path / "empty").mkdir()
    with pytest.raises(RefusedInput, match="no class folders with images"):
        calibration_set(bundle.card, replace(options, data=str(tmp_path / "empty")))


def test_a_plain_export_keeps_what_a_folder_calibrated(bundle: Bundle, tmp_path: Path) -> None:
    """Nothing would be made, so nothing has to be named; with other counts it has."""
    own = with_card(bundle, dataset="folder photos")
    folder = str(photos(tmp_path / "photos", 1))
    own, made, _ = convert(own, "int8", CalibrationOptions(data=folder, images=12))
    assert convert(own, "int8", CalibrationOptions(images=12))[1:] == (made, True)
    with pytest.raises(UsageError, match="trained on folder photos"):
        convert(own, "int8", CalibrationOptions(images=13))
    named = CalibrationOptions(data="sample", images=12)
    assert convert(own, "int8", named)[1].made_by["calibration_data"] == "sample train"


def test_an_export_that_names_nothing_keeps_the_images_and_their_number(
    bundle: Bundle, tmp_path: Path
) -> None:
    own = with_card(bundle, dataset="sample")
    folder = str(photos(tmp_path / "photos", 1))
    for precision in ("int8", "fp16"):
        asked = CalibrationOptions(data=folder, images=12)
        own, made, _ = convert(own, precision, asked)
        assert convert(own, precision)[1:] == (made, True)
        own.path(made).write_bytes(b"damaged")
        own, again, reused = convert(own, precision)
        assert not reused
        assert again.sha256 == made.sha256, "made again, it is made of the same"
        assert again.made_by == made.made_by
        assert convert(own, precision, CalibrationOptions(data=folder))[1:] == (again, True)


def test_the_number_of_images_is_not_taken_over_to_other_data(
    bundle: Bundle, tmp_path: Path
) -> None:
    own = with_card(bundle, dataset="sample")
    own = convert(own, "fp16", CalibrationOptions(data="sample", images=12))[0]
    for same in (CalibrationOptions(data="sample"), CalibrationOptions(data_dir=tmp_path)):
        assert completed(own, "fp16", same).images == 12
    folder = str(photos(tmp_path / "photos", 1))
    assert completed(own, "fp16", CalibrationOptions(data=folder)).images is None
    own = convert(own, "fp16", CalibrationOptions(data=folder, images=12))[0]
    for other in (CalibrationOptions(data="sample"), CalibrationOptions(data_dir=tmp_path)):
        assert completed(own, "fp16", other).images is None


def test_where_nothing_is_there_it_is_128_images(bundle: Bundle) -> None:
    own = with_card(bundle, dataset="sample")
    assert convert(own, "fp16")[1].made_by["calibration_images"] == "128"
    assert images_to_run("fp16") == 128


def test_the_images_of_a_folder_that_is_gone_are_not_replaced_by_others(
    bundle: Bundle, tmp_path: Path
) -> None:
    own = with_card(bundle, dataset="sample")
    folder = photos(tmp_path / "photos", 1)
    own, made, _ = convert(own, "int8", CalibrationOptions(data=str(folder), images=12))
    shutil.rmtree(folder)
    assert convert(own, "int8")[1:] == (made, True)
    own.path(made).write_bytes(b"damaged")
    with pytest.raises(RefusedInput, match="photos"):
        convert(own, "int8")


def test_the_range_of_a_model_of_unknown_data_from_a_folder_of_fashion_mnist(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = CalibrationOptions(data_dir=tmp_path, images=12)
    with pytest.raises(RefusedInput, match="lacks train-images-idx3-ubyte"):
        convert(bundle, "fp16", options)
    full = replace(load_dataset("sample"), name="fashion-mnist")
    asked: list[tuple[str, Path | None]] = []

    def load(name: str, data_dir: Path | None) -> Dataset:
        asked.append((name, data_dir))
        return full

    monkeypatch.setattr(sources, "load_dataset", load)
    made = convert(bundle, "fp16", options)[1].made_by
    assert asked == [("fashion-mnist", tmp_path)]
    assert made["calibration_data"] == "fashion-mnist train"


def test_held_out_images_are_not_all_in_memory_as_floats(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[NDArray[np.float32]]] = []
    most = 0

    def counted(*given: Any) -> Iterator[NDArray[np.float32]]:
        nonlocal most
        for part in batches(*given):
            alive.append(weakref.ref(part))
            most = max(most, sum(ref() is not None for ref in alive))
            yield part

    done: list[int] = []
    monkeypatch.setattr(quantize, "batches", counted)
    convert(bundle, "int8", CalibrationOptions(data="sample", images=64), done.append)
    assert len(alive) == 4 * 64 // BATCH
    assert sum(done) == images_to_run("int8", CalibrationOptions(images=64))
    assert most <= 3


def with_card(bundle: Bundle, **changes: Any) -> Bundle:
    """The same bundle with another card."""
    manifest = replace(bundle.manifest, card=replace(bundle.card, **changes))
    save_manifest(bundle.root, manifest)
    return open_bundle(bundle.root)


@pytest.mark.parametrize("images", [0, 7, 10_001])
def test_image_counts_out_of_range_are_refused(images: int) -> None:
    with pytest.raises(UsageError, match="calibration images"):
        CalibrationOptions(images=images)


def test_more_images_than_there_are_is_refused(bundle: Bundle) -> None:
    with pytest.raises(RefusedInput, match="sample has 5000") as caught:
        convert(bundle, "int8", CalibrationOptions(data="sample", images=6000))
    assert "--calibration-images 2500" in caught.value.remedy
