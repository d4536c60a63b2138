"""What ``load`` is told of how images become input, and of labels and file names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import make_bundle, make_card
from vgg_deploy.bundle import open_bundle
from vgg_deploy.cli import main
from vgg_deploy.model.torchvision import IMAGENET_MEAN, IMAGENET_STD
from vgg_deploy.model.vgg import VGG
from vgg_deploy.pipeline.asked_preprocessing import AskedPreprocessing, asked_before
from vgg_deploy.report.remade_checkpoint import checkpoint_command
from vgg_deploy.spec import ModelSpec

ARCH = "1x4-1x8"
SPEC = ModelSpec.named(ARCH, size=32, channels=3, classes=10, fc_width=16)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "w.pth"
    torch.save(VGG(SPEC).state_dict(), path)
    return path


def loading(weights: Path, out: Path, *more: str) -> list[str]:
    return ["load", "--weights", str(weights), "--arch", ARCH, "-o", str(out), *more]


@pytest.mark.parametrize(
    ("words", "mean", "std", "resize", "value_range"),
    [
        ("--mean 0.5,0.5,0.5 --std 0.25,0.25,0.5", (0.5,) * 3, (0.25, 0.25, 0.5), 37, (0, 1)),
        ("--resize square", IMAGENET_MEAN, IMAGENET_STD, None, (0, 1)),
        ("--resize 32", IMAGENET_MEAN, IMAGENET_STD, 32, (0, 1)),
        ("--preprocessing scale --resize 40 --value-range -1,1", (0,) * 3, (1,) * 3, 40, (-1, 1)),
        ("--mean -1,2,0.001", (-1, 2, 0.001), IMAGENET_STD, 37, (0, 1)),
    ],
)
def test_parts_of_the_preprocessing_can_be_told(
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    resize: int | None,
    value_range: tuple[float, float],
) -> None:
    assert main(loading(weights, tmp_path / "b", *words.split())) == 0
    bundle = open_bundle(tmp_path / "b")
    p = bundle.card.preprocessing
    assert (p.mean, p.std, p.resize, p.value_range) == (mean, std, resize, value_range)
    said = " ".join(capsys.readouterr().err.split())
    assert f"mean {', '.join(f'{m:g}' for m in mean)}; standard" in said
    assert f"values from {value_range[0]} to {value_range[1]}" in said
    assert ("resize to 32 × 32" if resize is None else f"shorter side to {resize}") in said
    assert asked_before(bundle.checkpoint.made_by).of(SPEC) == p
    again = checkpoint_command(bundle, "b")
    assert all(word in again for word in words.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--mean 0.5", "3 channels with 1 means"),
        ("--std 0.5,0.5", "2 standard deviations"),
        ("--std 0,1,1", "standard deviation 0"),
        ("--std 1e-300,1,1", "float32 does not hold"),
        ("--mean nan,1,1", "is not finite"),
        ("--mean a,b,c", "mean 'a,b,c' is not a list of numbers"),
        ("--resize 31", "resize 31 is smaller than the crop of 32"),
        ("--resize 99999999", "resize is out of range"),
        ("--resize round", "neither a number of pixels nor square"),
        ("--value-range 255", "value range of 1 number "),
        ("--value-range 1,0", "value range 1 to 0"),
        ("--preprocessing 0.5,0.5,0.5", "--mean, --std and --resize tell another one"),
    ],
)
def test_no_preprocessing_of_this_network(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, said: str
) -> None:
    assert main(loading(weights, tmp_path / "b", *words.split())) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "b").exists()


def test_what_was_assumed_may_be_told_later(weights: Path, tmp_path: Path) -> None:
    assert main(loading(weights, tmp_path / "a")) == 0
    assumed = str(tmp_path / "a" / "checkpoint.safetensors")
    words = ["load", "--weights", assumed, "-o", str(tmp_path / "b")]
    assert main([*words]) == 0, "still assumed"
    again = ["load", "--weights", str(tmp_path / "b" / "checkpoint.safetensors")]
    again += ["-o", str(tmp_path / "c"), "--mean", "0.5,0.5,0.5"]
    assert main(again) == 0
    p = open_bundle(tmp_path / "c").card.preprocessing
    assert (p.mean, p.resize) == ((0.5,) * 3, 37)
    told = ["load", "--weights", str(tmp_path / "c" / "checkpoint.safetensors")]
    told += ["-o", str(tmp_path / "d")]
    assert main([*told, "--std", "0.5,0.5,0.5"]) == 2
    assert main([*told, "--mean", "0.5,0.5,0.5"]) == 0, "that is what it says itself"


def test_what_a_training_took_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = make_bundle(tmp_path / "trained", make_card())
    words = ["load", "--weights", str(bundle.path(bundle.checkpoint)), "-o", str(tmp_path / "b")]
    assert main([*words, "--resize", "40"]) == 2
    assert "says what it was trained with" in " ".join(capsys.readouterr().err.split())


def test_records_that_cannot_be_read_tell_nothing() -> None:
    assert asked_before({"mean": "x"}) == AskedPreprocessing()


def test_labels_that_stand_there_twice(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"class {n}" for n in range(10)]
    names[7] = names[2]
    labels = tmp_path / "labels.txt"
    labels.write_text("\n\n" + "\n".join(names))
    assert main(loading(weights, tmp_path / "b", "--labels", str(labels))) == 3
    assert "'class 2' twice, in lines 5 and 10" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ck/no.ckpt", 3),
        ("ck/no", 3),
        ("no.pth.tar", 3),
        ("my_weights.ckpt", 3),
        ("W.PTH", 3),
        ("VGG11", 2),
        ("VGG99_Weights.X", 2),
        ("vgg16.imagenet1k_v1", 2),
    ],
)
def test_absent_files_and_unknown_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, code: int
) -> None:
    assert main(["load", "--weights", name, "--arch", ARCH, "-o", str(tmp_path / "b")]) == code
    said = capsys.readouterr().err
    assert ("does not exist" in said, "unknown weights" in said) == (code == 3, code == 2)


def test_which_weights_were_taken_is_said_and_kept(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(weights)
    half = {key: value.half() for key, value in state.items()}
    torch.save({"model": state, "ema": half}, tmp_path / "two.pth")
    assert main(loading(tmp_path / "two.pth", tmp_path / "b")) == 0
    assert "weights: model; also there, for --key: ema" in capsys.readouterr().err
    assert open_bundle(tmp_path / "b").checkpoint.made_by["key"] == "model"
    assert main(loading(tmp_path / "two.pth", tmp_path / "c", "--key", "ema", "--json")) == 0
    said = capsys.readouterr().err
    assert "weights: ema; also there, for --key: model" in said
    assert "weights in float16 are stored as float32" in said
    bundle = open_bundle(tmp_path / "c")
    assert bundle.checkpoint.made_by["key"] == "ema"
    assert "--key ema" in checkpoint_command(bundle, "c")
