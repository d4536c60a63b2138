"""From data to a bundle: image folders, fine-tuning, interruptions, pictures."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import LABELS, make_bundle, make_card
from vgg_deploy import jsonio
from vgg_deploy.bundle import Bundle, create_bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.data.fashion_mnist import load_dataset
from vgg_deploy.errors import Interrupted, RefusedInput, UsageError
from vgg_deploy.files import sha256_of
from vgg_deploy.manifest import Draft
from vgg_deploy.model.checkpoint import load_state, read_card, save_checkpoint
from vgg_deploy.pipeline.cells import Selection
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.request import TrainRequest
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.pipeline.verify import VerifyOptions, verdict_error, verify_bundle
from vgg_deploy.pipeline.watch import Silent
from vgg_deploy.spec import unnamed_labels
from vgg_deploy.train import loop
from vgg_deploy.train.options import RunControl, TrainOptions
from vgg_deploy.train.store import Store

OPTIONS = TrainOptions(epochs=2, batch=32, device="cpu", precision="fp32", max_images=200)
SAMPLE = TrainRequest(
    arch="1x4-1x8", width=1.0, size=16, fc_width=32, data="sample", options=OPTIONS
)


TINY = ["--arch", "1x4-1x8", "--width", "1", "--size", "16", "--fc-width", "32"]


class Heard(Silent):
    """Keeps what is said; sends this process a signal after so many images."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.lines: list[str] = []
        self._left = stop_after

    def say(self, text: str) -> None:
        self.lines.append(text)

    def advance(self, done: int = 1) -> None:
        if self._left is not None:
            self._left -= done
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGTERM)
                self._left = None


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of noisy colours, RGB, of several shapes; one file is broken."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for channel, name in enumerate(("blue", "green", "red")):
        (root / name).mkdir()
        for index in range(30):
            shape = (int(random.integers(20, 40)), int(random.integers(20, 40)), 3)
            image = random.integers(0, 120, shape, np.uint8)
            image[..., 2 - channel] += 120
            Image.fromarray(image).save(root / name / f"{index}.png")
    (root / "red" / "broken.jpg").write_bytes(b"broken")
    return root


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle trained on the photos."""
    options = replace(OPTIONS, epochs=6, batch=16, lr=0.05)
    request = replace(SAMPLE, data=str(photos), options=options)
    return train_bundle(tmp_path_factory.mktemp("b") / "bundle", request)


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
    assert "skipped 1 unreadable images: red/broken.jpg" in err
    if order == 1:
        assert code == 0
        assert f"Accuracy: on 90 of the 90 images of folder {photos.name}." in out
    else:
        assert code == 3
        assert "class 0 is called 'red' and is 'blue' in folder" in err


def test_what_is_wrong_with_the_images_is_said(photos: Path, tmp_path: Path) -> None:
    heard = Heard()
    train_bundle(tmp_path / "b", replace(SAMPLE, data=str(photos)), heard)
    assert any("skipped 1 unreadable images: red/broken.jpg" in line for line in heard.lines)
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
    with pytest.raises(RefusedInput, match="not UTF-8 cannot be stored in a VerifyOptions"):
        jsonio.dumps(VerifyOptions(data=os.fsdecode(b"caf\xe9")))


def test_fine_tuning_with_frozen_features(trained: Bundle, tmp_path: Path) -> None:
    """Grey clothes for a network of coloured noise: other classes, the same preprocessing."""
    options = replace(OPTIONS, recipe="fine-tune", freeze="features", batch=16)
    request = TrainRequest(start=trained.root, data="sample", options=options)
    heard = Heard()
    tuned = train_bundle(tmp_path / "tuned", request, heard)
    assert tuned.card.preprocessing == trained.card.preprocessing
    assert tuned.card.spec.arch == trained.card.spec.arch
    assert len(tuned.card.labels) == 10
    before, after = (load_state(b.path(b.checkpoint)) for b in (trained, tuned))
    assert all(before[k].equal(after[k]) for k in before if k.startswith("blocks"))
    assert not before["head.fc6.weight"].equal(after["head.fc6.weight"])
    assert after["head.fc8.weight"].shape[0] == 10
    best = tuned.root / "training" / "best.safetensors"
    assert sha256_of(best) == tuned.checkpoint.sha256
    assert tuned.checkpoint.made_by["fine_tuned_from"] == trained.checkpoint.sha256
    assert any("of them frozen" in line for line in heard.lines)


CLOTHES = load_dataset("sample").labels


@pytest.mark.parametrize(
    ("labels", "rows", "said"),
    [
        (CLOTHES, list(range(10)), ""),
        (CLOTHES[::-1], list(range(9, -1, -1)), "kept, its rows in the order of the data set"),
        (unnamed_labels(10), list(range(10)), f"matched by position, class 0 is {CLOTHES[0]!r}"),
        (LABELS, [], f"begins afresh: other classes, such as {CLOTHES[0]!r}, not 'a'"),
        ((*CLOTHES, "hat"), [], "begins afresh: other classes, 10 instead of 11"),
    ],
)
def test_the_last_layer_follows_its_classes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    labels: tuple[str, ...],
    rows: list[int],
    said: str,
) -> None:
    card = make_card("1x4-1x8", size=16)
    spec = replace(card.spec, classes=len(labels))
    base = make_bundle(tmp_path / "base", replace(card, spec=spec, labels=labels))
    begun: list[loop.Start] = []

    def train(*given: object) -> None:
        begun.append(given[-1])  # type: ignore[arg-type]
        raise Interrupted("enough", "nothing")

    monkeypatch.setattr(loop, "train", train)
    options = replace(OPTIONS, recipe="fine-tune")
    heard = Heard()
    request = TrainRequest(start=base.root, data="sample", options=options)
    with pytest.raises(Interrupted):
        train_bundle(tmp_path / "b", request, heard)
    before, after = load_state(base.path(base.checkpoint)), begun[0].state
    for name in ("head.fc8.weight", "head.fc8.bias"):
        assert (name in after) == bool(rows)
        assert not rows or after[name].equal(before[name][rows])
    assert after["head.fc7.weight"].equal(before["head.fc7.weight"])
    lines = [line for line in heard.lines if "last layer" in line]
    assert len(lines) == bool(said)
    assert said in "".join(lines)


@pytest.mark.parametrize("kept", [True, False])
def test_the_accuracy_before_the_first_step_is_told(tmp_path: Path, kept: bool) -> None:
    """With steps of nearly nothing it is that of the first epoch, too."""
    card = replace(make_card("1x4-1x8", size=16), labels=CLOTHES if kept else LABELS)
    base = make_bundle(tmp_path / "base", card)
    options = replace(OPTIONS, recipe="fine-tune", epochs=1, lr=1e-9)
    heard = Heard()
    request = TrainRequest(start=base.root, data="sample", options=options)
    train_bundle(tmp_path / "b", request, heard)
    row = json.loads((tmp_path / "b" / "training" / "metrics.jsonl").read_text())
    told = f"train: before the first step: test {row['test_accuracy']:.4f}"
    assert (told in heard.lines) == kept
    assert any("before the first step" in line for line in heard.lines) == kept
    assert any(" on 200 of 5,000 images" in line for line in heard.lines)


def test_frozen_batch_norm_keeps_its_statistics(tmp_path: Path) -> None:
    base = make_bundle(tmp_path / "base", make_card("1x4-1x8_bn", size=16))
    options = replace(OPTIONS, recipe="fine-tune", freeze="features")
    request = TrainRequest(start=base.root, data="sample", options=options)
    tuned = train_bundle(tmp_path / "tuned", request)
    before, after = (load_state(b.path(b.checkpoint)) for b in (base, tuned))
    assert all(before[k].equal(after[k]) for k in before if k.startswith("blocks"))


def test_random_features_are_not_frozen(tmp_path: Path) -> None:
    request = replace(SAMPLE, options=replace(OPTIONS, freeze="features"))
    with pytest.raises(UsageError, match="random features"):
        train_bundle(tmp_path / "b", request)
    assert not (tmp_path / "b").exists()


def test_a_bundle_after_an_interruption(tmp_path: Path) -> None:
    whole = train_bundle(tmp_path / "whole", SAMPLE)
    with pytest.raises(Interrupted):
        train_bundle(tmp_path / "cut", SAMPLE, Heard(stop_after=60))
    with pytest.raises(RefusedInput, match="was interrupted") as caught:
        train_bundle(tmp_path / "cut", SAMPLE)
    assert "--resume" in caught.value.remedy
    cut = train_bundle(tmp_path / "cut", SAMPLE, control=RunControl(resume="must"))
    assert cut.checkpoint.sha256 == whole.checkpoint.sha256
    assert not (tmp_path / "cut" / "training" / "checkpoints").exists()


WORDS = ["train", "--data", "sample", *TINY, "--epochs", "2", "--batch", "32", "--device", "cpu"]
WORDS += ["--precision", "fp32", "--max-images", "200"]


@pytest.mark.parametrize("replaces", [[], ["--replace"]])
def test_the_command_that_goes_on_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], replaces: list[str]
) -> None:
    """The line that is told works, and the first one again throws nothing away."""
    root = tmp_path / "a folder"
    words = [*WORDS, *replaces, "-o", str(root)]
    assert main([*words, "--max-minutes", "1e-9"]) == 6
    told = capfd.readouterr().err.strip().splitlines()[-1]
    _, _, command = told.partition("remedy: a checkpoint was saved; go on with: ")
    again = shlex.split(command)
    assert again == ["vgg-deploy", *words, "--max-minutes", "1e-9", "--resume"]
    before = Store(root / "training").found()
    assert main(words) == 3
    error = capfd.readouterr().err
    assert "after step 1, which these options would go on with" in error
    assert f"go on with --resume; to start afresh delete {root}" in error
    assert Store(root / "training").found() == before
    assert main([*words, "--seed", "1"]) == (0 if replaces else 3)
    assert ("dropped: " in capfd.readouterr().err) == bool(replaces)
    if not replaces:
        assert main([word for word in again[1:] if word not in ("--max-minutes", "1e-9")]) == 0


def test_a_data_folder_that_was_renamed(photos: Path, tmp_path: Path) -> None:
    """The bundle's card is that of its checkpoint, whichever epoch was the best."""
    images = tmp_path / "images"
    shutil.copytree(photos, images)
    request = replace(SAMPLE, data=str(images))
    with pytest.raises(Interrupted):
        train_bundle(tmp_path / "b", request, Heard(stop_after=90))
    moved = replace(request, data=str(images.rename(tmp_path / "renamed")))
    bundle = train_bundle(tmp_path / "b", moved, control=RunControl(resume="must"))
    assert read_card(bundle.path(bundle.checkpoint)) == open_bundle(bundle.root).card
    assert bundle.card.dataset == "folder images"


def test_a_bundle_of_other_images_is_not_kept(photos: Path, tmp_path: Path) -> None:
    """As many, of the same names and folder: what decides the weights are their pixels."""
    copy = tmp_path / "photos"
    shutil.copytree(photos, copy)
    request = replace(SAMPLE, data=str(copy), options=replace(OPTIONS, epochs=1))
    first = train_bundle(tmp_path / "b", request)
    assert train_bundle(tmp_path / "b", request, reuse=True).checkpoint == first.checkpoint
    for path in copy.rglob("*.png"):
        with Image.open(path) as image:
            turned = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        turned.save(path)
    again = train_bundle(tmp_path / "b", request, reuse=True, replace=True)
    assert again.checkpoint.sha256 != first.checkpoint.sha256


def test_what_is_not_ours_stays_where_checkpoints_were(tmp_path: Path) -> None:
    mine = tmp_path / "training" / "checkpoints" / "mine.bin"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"x")
    train_bundle(tmp_path, SAMPLE)
    assert [path.name for path in mine.parent.iterdir()] == ["mine.bin"]


@pytest.mark.parametrize("out", [".", "run", "deep/run", "link", "../link/run"])
def test_a_run_among_its_own_images(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], out: str
) -> None:
    """Refused before an image is decoded: the next run would take its pictures for a class."""
    images = tmp_path / "images"
    shutil.copytree(photos, images)
    for link in (tmp_path / "link", images / "link"):
        link.symlink_to(images)
    before = sorted(images.rglob("*"))
    words = ["train", *TINY, "--epochs", "1", "--device", "cpu", "--data", str(images)]
    assert main([*words, "-o", str(images / out)]) == 2
    error = capfd.readouterr().err
    assert "the folder of the images" in error
    assert "remedy: choose a folder elsewhere" in error
    assert sorted(images.rglob("*")) == before


def test_a_bundle_beside_the_splits(
    photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No class, however often it is made; a split, or what lies in one, would be."""
    images = tmp_path / "images"
    for split in ("train", "test"):
        shutil.copytree(photos, images / split)
    words = ["train", *TINY, "--epochs", "1", "--device", "cpu", "--data", str(images)]
    words += ["--max-images", "9"]
    for out in ("train", "test/run", "val", "Valid/run"):
        assert main([*words, "-o", str(images / out)]) == 2
        assert f"{out} lies in the folder of the images" in capfd.readouterr().err
    for _ in range(2):
        assert main([*words, "-o", str(images / "model"), "--replace"]) == 0
        assert open_bundle(images / "model").card.labels == ("blue", "green", "red")


def test_a_run_that_is_among_its_images_goes_on(photos: Path, tmp_path: Path) -> None:
    """Of an earlier version: resumed, and reused when it is done."""
    shutil.copytree(photos, images := tmp_path / "images")
    request = replace(SAMPLE, data=str(images), options=replace(OPTIONS, max_images=64))
    with pytest.raises(Interrupted):
        train_bundle(tmp_path / "run", request, Heard(stop_after=32))
    root = (tmp_path / "run").rename(images / "run")
    done = train_bundle(root, request, control=RunControl(resume="must"))
    assert train_bundle(root, request, reuse=True, replace=True).checkpoint == done.checkpoint
    other = replace(request, size=20)
    with pytest.raises(UsageError, match="lies in the folder of the images"):
        train_bundle(root, other, reuse=True, replace=True)


def test_a_bundle_among_the_images_of_an_earlier_version(photos: Path, tmp_path: Path) -> None:
    """One finished, one interrupted, and the folder of the images itself."""
    images = tmp_path / "images"
    shutil.copytree(photos, images)
    request = replace(SAMPLE, data=str(images), options=replace(OPTIONS, epochs=1))
    done = train_bundle(tmp_path / "run", request)
    assert (done.root / "training" / "curves.png").is_file()
    with pytest.raises(Interrupted):
        train_bundle(images, replace(SAMPLE, options=OPTIONS), Heard(stop_after=60))
    shutil.copytree(images / "training", images / "cut" / "training")
    shutil.move(done.root, images / "run")
    heard = Heard()
    bundle = train_bundle(tmp_path / "again", request, heard)
    assert bundle.card.labels == ("blue", "green", "red")
    for name in ("cut", "run", "training"):
        assert f"train: {images / name} is of vgg-deploy itself: not a class" in heard.lines


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
