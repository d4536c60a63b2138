"""Accuracy is told on images that a network has not seen, and its bundle records which it has."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.pipeline.records import SHORT, accuracy_of, lines_of, pictures, verified, with_notes
from tests.pipeline.training import SAMPLE, Heard
from vgg_deploy import jsonio
from vgg_deploy.backends.base import Array
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.data.dataset import Dataset, Origin, Split
from vgg_deploy.data.image_folder import load_image_folder
from vgg_deploy.data.sources import geometry_of
from vgg_deploy.errors import RefusedInput
from vgg_deploy.files import sha256_of
from vgg_deploy.pipeline.cells import Selection, plan
from vgg_deploy.pipeline.images import Images, images_for
from vgg_deploy.pipeline.images_file import KEY, copies, record_of, rows_of, write_images
from vgg_deploy.pipeline.request import TrainRequest
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.pipeline.unseen import without_seen
from vgg_deploy.pipeline.verify import VerifyOptions, gates_of, verify_bundle
from vgg_deploy.pipeline.verify_cells import prepare
from vgg_deploy.pipeline.yardstick import _key
from vgg_deploy.train.loop import shown_and_held
from vgg_deploy.train.options import TrainOptions
from vgg_deploy.train.outcome import Evaluation
from vgg_deploy.verify.accuracy import answers
from vgg_deploy.verify.inputs import make_inputs


@pytest.fixture(scope="module")
def tuned(trained: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The trained one, fine-tuned on images of another folder."""
    root = tmp_path_factory.mktemp("tuned")
    data = pictures(root / "others", 10, 1)
    request = TrainRequest(start=trained.root, data=str(data), options=SHORT)
    return train_bundle(root / "bundle", request)


def test_every_image_is_on_record(trained: Bundle, photos: Path) -> None:
    lines = lines_of(trained)
    assert list(lines[0]) == ["file", "class", "part", "sha256"]
    assert Counter(line["part"] for line in lines) == {"train": 72, "test": 18}
    for line in lines:
        assert line["file"].split("/")[0] == line["class"]
        assert sha256_of(photos / line["file"])[:16] == line["sha256"]
    assert len({line["file"] for line in lines}) == 90


@pytest.mark.parametrize(("images", "share"), [(None, 0), (20, 0), (None, 0.25), (20, 0.25)])
def test_the_record_says_what_is_trained_with(
    trained: Bundle, tmp_path: Path, images: int | None, share: float
) -> None:
    options = TrainOptions(max_images=images, validation=share)
    data = load_image_folder(pictures(tmp_path, 10, 2), geometry_of(trained.card.preprocessing))
    rows = rows_of(data, options)
    assert [row.file for row in rows[24:] if row.part == "test"] == [
        origin.file for origin in data.test.origins
    ]
    assert [row.part for row in rows].count("unused") == 24 - (images or 24)
    parts = np.array([row.part for row in rows[:24]])
    shown, held = shown_and_held(trained.card, data, options, torch.device("cpu"))
    for part, used in (("train", shown), ("validation", held)):
        pixels = data.train.images[parts == part]
        assert len(pixels) == (len(used) if used else 0)
        if used:
            assert np.array_equal(used.pixels_of(torch.arange(len(used))).numpy(), pixels)


def test_a_split_of_its_own_to_choose_with(trained: Bundle, tmp_path: Path) -> None:
    for seed, name in enumerate(("train", "test", "val")):
        pictures(tmp_path / name, 2 + seed, seed)
    data = load_image_folder(tmp_path, geometry_of(trained.card.preprocessing))
    rows = rows_of(data, TrainOptions())
    assert Counter(row.part for row in rows) == {"train": 6, "test": 9, "validation": 12}
    assert {row.file.split("/")[0] for row in rows if row.part == "validation"} == {"val"}
    (told,) = copies(replace(data, test=data.validation or data.test), TrainOptions(), ())
    assert told.startswith("12 of 12 test images are images to train or choose with, too: first")


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode elsewhere")
def test_a_file_name_that_is_not_utf8(own: Bundle, tmp_path: Path) -> None:
    first = min((pictures(tmp_path / "data", 2, 8) / "red").iterdir())
    first.rename(first.with_name(os.fsdecode(b"\xff.png")))
    data = load_image_folder(tmp_path / "data", geometry_of(own.card.preprocessing))
    rows = rows_of(data, TrainOptions())
    digest = write_images(own.root, rows)
    assert record_of(with_notes(own, {KEY: digest})) == tuple(rows)
    assert r"red/\udcff.png" in {row.file for row in rows}


def test_a_fine_tuned_network_is_not_tested_on_what_its_weights_saw(
    tuned: Bundle, photos: Path, tmp_path: Path
) -> None:
    parts = Counter(line["part"] for line in lines_of(tuned))
    assert parts == {"train": 24, "test": 6, "train of the weights": 72}
    moved = open_bundle(shutil.copytree(tuned.root, tmp_path / "moved"))
    row, told = verified(moved, photos)
    found = accuracy_of(row)
    assert (found.total, found.available, found.split) == (18, 90, "unseen")
    assert "verify: 72 of 90 images were trained on: left out of the accuracy" in told


def test_a_fine_tuned_network_passes_on_what_it_got(tuned: Bundle, tmp_path: Path) -> None:
    data = pictures(tmp_path / "third", 5, 3)
    request = TrainRequest(start=tuned.root, data=str(data), options=SHORT)
    lines = lines_of(train_bundle(tmp_path / "b", request))
    parts = Counter(line["part"] for line in lines)
    assert parts == {"train": 12, "test": 3, "train of the weights": 72 + 24}


def test_the_same_images_and_new_ones_elsewhere(
    trained: Bundle, photos: Path, tmp_path: Path
) -> None:
    more = pictures(shutil.copytree(photos, tmp_path / "more"), 4, 4)
    row, told = verified(trained, more)
    assert (accuracy_of(row).total, accuracy_of(row).available) == (18 + 12, 102)
    assert "verify: 72 of 102 images were trained on: left out of the accuracy" in told


def test_images_added_to_the_same_folder(trained: Bundle, photos: Path, tmp_path: Path) -> None:
    more = pictures(shutil.copytree(photos, tmp_path / photos.name), 15, 5)
    data = load_image_folder(more, geometry_of(trained.card.preprocessing))
    seen = {line["sha256"] for line in lines_of(trained) if line["part"] == "train"}
    again = sum(origin.sha256 in seen for origin in data.test.origins)
    assert again > 0
    row, told = verified(trained, more)
    assert len(data.test) == 27
    assert accuracy_of(row).total == 27 - again
    assert accuracy_of(row).split == "test"
    assert f"verify: {again} of 27 test images were trained on: left out of the accuracy" in told


def test_where_nothing_else_is_left_there_is_no_accuracy(
    trained: Bundle, photos: Path, tmp_path: Path
) -> None:
    for line in lines_of(trained):
        if line["part"] == "train":
            (tmp_path / "seen" / line["class"]).mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / line["file"], tmp_path / "seen" / line["file"])
    row, told = verified(trained, tmp_path / "seen")
    assert (row.verdict, row.accuracy) == ("equivalent", None)
    said = "verify: accuracy not compared, all 72 images of folder seen were trained on"
    assert said in told
    gates = gates_of(["top1_drop>0.3"])
    with pytest.raises(RefusedInput, match="all 72 images of folder seen were") as caught:
        verify_bundle(trained, VerifyOptions(data=str(tmp_path / "seen"), gates=gates))
    said = "verify with labelled images of its classes that it was not trained on"
    assert caught.value.remedy == said


def test_leaving_images_out_takes_no_copy_of_the_others(trained: Bundle, photos: Path) -> None:
    p, spec, count = trained.card.preprocessing, trained.checkpoint.input, 3_000
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, p.size, p.size, 3), np.uint8)
    labels = random.integers(0, 3, count)
    new = [Origin(f"{index}.png", f"{index:016}") for index in range(1, count)]
    seen, *_ = load_image_folder(photos, geometry_of(p)).train.origins
    whole = folder(Split(pixels, labels, (seen, *new)))
    inputs = make_inputs(pixels[:8], "x", p, count=8, seed=0)
    sums: list[float] = []

    def run(batch: Array) -> Array:
        sums.append(float(batch.sum()))
        return np.tile(np.arange(3.0), (len(batch), 1))

    tracemalloc.start()
    images = without_seen(whole, trained)
    key = _key(trained, inputs, images)
    found = answers(run, pixels, labels, p, spec, chosen=images.tested, batch=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < pixels.nbytes / 2
    assert images.tested.tolist() == list(range(1, count))
    same = folder(Split(pixels[1:], labels[1:], tuple(new)))
    assert key == _key(trained, inputs, same) != _key(trained, inputs, whole)
    apart = answers(run, pixels[1:], labels[1:], p, spec, batch=10)
    assert sums[:300] == sums[300:]
    assert len(found.first) == count - 1
    assert np.array_equal(found.first, apart.first)


def folder(test: Split) -> Images:
    return Images(Dataset("folder x", "", test, test, ("blue", "green", "red")), "")


def test_images_that_chose_the_epoch_are_left_out(trained: Bundle, tmp_path: Path) -> None:
    data = pictures(tmp_path / "others", 10, 6)
    options = replace(SHORT, validation=0.25)
    request = TrainRequest(start=trained.root, data=str(data), options=options)
    bundle = train_bundle(tmp_path / "b", request)
    assert Counter(line["part"] for line in lines_of(bundle))["validation"] == 6
    row, told = verified(bundle, pictures(data, 1, 7).rename(tmp_path / "other"))
    assert accuracy_of(row).total == 9
    how = "trained on or held out to choose the epoch with"
    assert f"verify: 24 of 33 images were {how}: left out of the accuracy" in told


def test_copies_among_the_test_images_are_told(
    trained: Bundle, photos: Path, tmp_path: Path
) -> None:
    lines = lines_of(trained)
    data = shutil.copytree(photos, tmp_path / "copied")
    test = next(line["file"] for line in lines if line["part"] == "test")
    train = next(
        line["file"] for line in lines if line["part"] == "train" and line["class"] == "blue"
    )
    shutil.copy(data / train, data / test)
    heard, tuning = Heard(), Heard()
    train_bundle(tmp_path / "a", replace(SAMPLE, data=str(data), options=SHORT), heard)
    said = "test images are images to train or choose with, too: first"
    assert f"train: 1 of 18 {said} {test}" in heard.lines
    others = pictures(tmp_path / "others", 10, 1)
    shutil.copy(photos / train, min((others / "blue").iterdir()))
    data = Path(shutil.copytree(others / "blue", tmp_path / "own" / "test" / "blue")).parent.parent
    shutil.copytree(others / "blue", data / "train" / "blue")
    for name in ("green", "red"):
        shutil.copytree(others / name, data / "train" / name)
        shutil.copytree(others / name, data / "test" / name)
    request = TrainRequest(start=trained.root, data=str(data), options=SHORT)
    train_bundle(tmp_path / "b", request, tuning)
    told = [line for line in tuning.lines if "test images" in line and "first" in line]
    assert f"train: 30 of 30 {said}" in told[0]
    assert "train: 1 of 30 test images were training images of the weights" in told[1]


def test_mistakes_name_their_files(photos: Path, tmp_path: Path) -> None:
    options = replace(SHORT, lr=1e-9)  # it learns nothing
    bundle = train_bundle(tmp_path / "b", replace(SAMPLE, data=str(photos), options=options))
    path = bundle.root / "training" / "evaluation.json"
    found = jsonio.load(Evaluation, path)
    tests = [line["file"] for line in lines_of(bundle) if line["part"] == "test"]
    assert len(found.worst) > 3
    for mistake in found.worst:
        assert mistake.file == tests[mistake.index]
        assert mistake.file.split("/")[0] == found.labels[mistake.truth]
    older = json.loads(path.read_text())
    for one in older["worst"]:
        del one["file"]
    path.write_text(json.dumps(older))
    assert {mistake.file for mistake in jsonio.load(Evaluation, path).worst} == {""}


def test_images_are_named_by_their_files(trained: Bundle, photos: Path) -> None:
    selection = Selection(backends=("torch",))
    options = VerifyOptions(selection=selection, images=12, data=str(photos), accuracy=False)
    images = images_for(trained.card, str(photos))
    cells = plan(trained, selection)
    run = prepare(trained, cells, options, images, Heard(), keep=False)
    tests = {line["file"]: line["class"] for line in lines_of(trained) if line["part"] == "test"}
    assert len(set(run.inputs.names[:12])) == 12
    assert set(run.inputs.names[:12]) <= set(tests)
    assert not set(run.inputs.names[12:]) & set(tests)


def test_a_run_on_images_without_files_leaves_no_record(own: Bundle) -> None:
    bundle = train_bundle(own.root, replace(SAMPLE, options=SHORT), replace=True)
    assert not (own.root / "training" / "images.csv").exists()
    assert KEY not in bundle.checkpoint.made_by
