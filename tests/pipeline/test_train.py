"""From data to a bundle: image folders, their names, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pipeline.training import SAMPLE, TINY, Heard
from vgg_deploy import jsonio
from vgg_deploy.bundle import Bundle, create_bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import RefusedInput
from vgg_deploy.manifest import Draft
from vgg_deploy.model.checkpoint import load_state, save_checkpoint
from vgg_deploy.pipeline.cells import Selection
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.pipeline.verify import VerifyOptions, verdict_error, verify_bundle


def test_an_image_folder_from_training_to_verdict(trained: Bundle, photos: Path) -> None:
    card = trained.card
    assert (card.labels, card.spec.channels) == (("blue", "green", "red"), 3)
    assert card.preprocessing.resize == 16
    rows = (trained.root / "training" / "metrics.jsonl").read_text().splitlines()
    assert max(json.loads(row)["test_accuracy"] for row in rows) > 0.8  # chance is 1/3
    bundle = export_bundle(trained, ("onnx",))[0]
    options = VerifyOptions(selection=Selection(backends=("ort-cpu",)), images=8)
    report = verify_bundle(bundle, replace(options, data=str(photos)))
    assert verdict_error(report) is None
    assert report.rows[0].accuracy is not None
    assert report.rows[0].accuracy.total == 18  # a fifth of each class
    assert verdict_error(verify_bundle(bundle, options)) is None  # without the photos, too


def test_its_own_folder_is_known_by_another_name(
    trained: Bundle, photos: Path, tmp_path: Path
) -> None:
    """Else all images, most of which it was trained on, would be tested with."""
    moved = shutil.copytree(photos, tmp_path / "moved")
    options = VerifyOptions(selection=Selection(backends=("torch",)), images=8, data=str(moved))
    accuracy = verify_bundle(trained, options).rows[0].accuracy
    assert accuracy is not None
    assert (accuracy.total, accuracy.available) == (18, 90)


@pytest.mark.parametrize("order", [1, -1])
def test_a_loaded_network_is_verified_with_every_image(
    trained: Bundle, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], order: int
) -> None:
    """The same weights as if from elsewhere, with their labels in the right order or in another."""
    card = replace(trained.card, labels=trained.card.labels[::order], dataset=None)
    first, state = trained.checkpoint, load_state(trained.path(trained.checkpoint))
    draft = Draft(
        format="checkpoint", precision="fp32", input=first.input, output=first.output,
        parent=None, made_by={},
    )  # fmt: skip
    bundle, _ = create_bundle(
        tmp_path / "b", card, draft, lambda path: save_checkpoint(path, card, state), replace=False
    )
    words = ["verify", str(bundle.root), "-b", "torch", "--images", "8", "--data", str(photos)]
    code = main(words)
    out, err = (" ".join(text.split()) for text in capsys.readouterr())
    assert "skipped 1 unreadable image: red/broken.jpg" in err
    if order == 1:
        assert code == 0
        assert f"Accuracy: on 90 of the 90 images of folder {photos.name}." in out
    else:
        assert code == 3
        assert "class 0 is called 'red' and is 'blue' in folder" in err


def test_what_is_wrong_with_the_images_is_said(photos: Path, tmp_path: Path) -> None:
    heard = Heard()
    train_bundle(tmp_path / "b", replace(SAMPLE, data=str(photos)), heard)
    assert any("skipped 1 unreadable image: red/broken.jpg" in line for line in heard.lines)
    names = tmp_path / "b" / "training" / "skipped.txt"
    assert any(str(names) in line for line in heard.lines)
    assert names.read_text("utf-8").startswith("red/broken.jpg (")
    train_bundle(tmp_path / "b", SAMPLE, replace=True)
    assert not names.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
def test_folders_whose_names_are_no_utf8(photos: Path, tmp_path: Path) -> None:
    """The images, the bundle that is made, and the one that is fine-tuned."""
    images, one, two = (tmp_path / os.fsdecode(b"caf\xe9%d" % n) for n in range(3))
    shutil.copytree(photos, images)
    words = ["train", "--data", str(images), "--epochs", "1", "--device", "cpu"]
    assert main([*words, *TINY, "-o", str(one)]) == 0
    assert main([*words, "--from", str(one), "-o", str(two)]) == 0
    assert open_bundle(two).card.labels == ("blue", "green", "red")


def test_what_stores_its_options_refuses_such_names() -> None:
    with pytest.raises(RefusedInput, match="not UTF-8 cannot be stored"):
        jsonio.dumps(VerifyOptions(data=os.fsdecode(b"caf\xe9")))


def test_command_lines_that_cannot_work(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train = ["train", "-o", str(tmp_path / "b"), "--data"]
    (empty := tmp_path / "empty").mkdir()
    for words, code, said in (
        ([*train, str(empty)], 3, "no class folders"),
        ([*train, "sample", "--resume"], 3, "nothing to resume"),
        ([*train, "sample", "--freeze", "head"], 2, "unknown part to freeze"),
        ([*train, "sample", "--freeze", ""], 2, "unknown part to freeze"),
        ([*train, "sample", "--recipe", ""], 2, "unknown recipe"),
        ([*train, "sample", "--save-every", "-1"], 2, "save-every"),
        ([*train, "sample", "--ema", "1"], 2, "ema 1 is no decay"),
        ([*train, "sample", "--validation", "0.9"], 2, "is not a share of 0 to 0.5"),
        (
            [*train, "sample", "--max-images", "9", "--validation", "0.1"],
            3,
            "Dress, Sandal, Sneaker and 1 more",
        ),
        ([*train, "sample", "--from", str(tmp_path / "x")], 3, "no bundle at"),
        ([*train, "sample", "--from", "x", "--size", "64"], 2, "--size cannot be chosen"),
        ([*train, "sample", "--from", "x", "--ceil-mode"], 2, "--ceil-mode cannot be chosen"),
    ):
        assert main(words) == code, words
        error = capfd.readouterr().err
        assert said in error
        assert "remedy:" in error
        assert "Traceback" not in error
