"""What ``load`` does with options beside weights that say themselves what they are."""

from __future__ import annotations

import codecs
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.errors import RefusedInput, UsageError, VggDeployError
from vgg_deploy.model import torchvision
from vgg_deploy.model.checkpoint import load_state
from vgg_deploy.model.vgg import VGG
from vgg_deploy.pipeline import load
from vgg_deploy.pipeline.asked_preprocessing import AskedPreprocessing
from vgg_deploy.pipeline.load import LoadOptions, load_bundle
from vgg_deploy.spec import ModelSpec

NAMES = tuple(f"class {n}" for n in range(10))


def weights_of(bundle: Bundle) -> str:
    return str(bundle.path(bundle.checkpoint))


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_labels_of_a_file_that_has_its_own(
    tiny_bundle: Bundle, tmp_path: Path, mark: bytes
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_bytes(mark + "\n".join(NAMES).encode())
    options = LoadOptions(weights=weights_of(tiny_bundle), labels=labels)
    bundle = load_bundle(tmp_path / "b", options)
    assert bundle.card.labels == NAMES
    assert bundle.checkpoint.made_by["labels"] == "given"
    plain = load_bundle(tmp_path / "plain", LoadOptions(weights=weights_of(tiny_bundle)))
    assert plain.checkpoint.made_by["labels"] == "own"


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_whose_name_is_no_utf8(tiny_bundle: Bundle, tmp_path: Path, suffix: str) -> None:
    weights = tmp_path / os.fsdecode(b"caf\xe9" + suffix.encode())
    words = ["load", "--weights", str(weights), "-o", str(tmp_path / "b")]
    if suffix == ".pth":
        torch.save(load_state(tiny_bundle.path(tiny_bundle.checkpoint)), weights)
        words += ["--arch", tiny_bundle.card.spec.arch, "--size", "32"]
    else:
        shutil.copy(weights_of(tiny_bundle), weights)
    assert main(words) == 0
    made_by = open_bundle(tmp_path / "b").checkpoint.made_by
    assert made_by["weights"] == f"{tmp_path}/caf\\udce9{suffix}"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"arch": "vgg16"}, UsageError),
        ({"size": 224}, UsageError),
        ({"head": "torchvision"}, UsageError),
        ({"classes": 7}, RefusedInput),
        ({"ceil_mode": True}, UsageError),
        ({"preprocessing": AskedPreprocessing(name="scale")}, UsageError),
        ({"preprocessing": AskedPreprocessing(mean=(0.5,))}, UsageError),
        ({"key": "model"}, UsageError),
    ],
)
@pytest.mark.parametrize("by_name", [False, True])
def test_what_contradicts_the_weights(
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    error: type[VggDeployError],
    by_name: bool,
) -> None:
    weights = weights_of(tiny_bundle)
    if by_name:
        loaded = torchvision.load_file(Path(weights))
        monkeypatch.setattr(load, "load_torchvision", lambda name: loaded)
        weights = "VGG11_Weights.IMAGENET1K_V1"
    with pytest.raises(error):
        load_bundle(tmp_path / "b", LoadOptions(weights=weights, **options))  # type: ignore[arg-type]
    spec = tiny_bundle.card.spec
    same = LoadOptions(weights=weights, arch=spec.arch, size=spec.size, head=spec.head, classes=10)
    load_bundle(tmp_path / "b", same)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("asked", [None, "imagenet", "scale", "other"])
def test_how_images_become_input_is_said_or_chosen(
    tmp_path: Path, channels: int, asked: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = ModelSpec.named("1x4-1x8", size=32, channels=channels, classes=10, fc_width=16)
    save_file(VGG(spec).state_dict(), tmp_path / "w.safetensors")
    words = ["load", "--weights", str(tmp_path / "w.safetensors"), "--arch", "1x4-1x8"]
    words += ["--size", "32", "-o", str(tmp_path / "b")]
    code = main([*words, *(["--preprocessing", asked] if asked else [])])
    said = " ".join(capsys.readouterr().err.split())
    if asked == "other" or (asked, channels) == ("imagenet", 1):
        assert code == 2
        return
    assert code == 0
    p = open_bundle(tmp_path / "b").card.preprocessing
    if channels == 3 and asked != "scale":
        assert (p.resize, p.mean) == (37, torchvision.IMAGENET_MEAN)
        assert "shorter side to 37, centre crop of 32" in said
        assert "mean 0.485, 0.456" in said
    else:
        assert (p.resize, set(p.mean), set(p.std)) == (None, {0.0}, {1.0})
        assert "resize to 32 × 32" in said
        assert "mean 0" in said


@pytest.mark.parametrize("more", [(), ("--classes", "5"), ("--labels", "labels.txt")])
def test_a_wrong_architecture_is_blamed_itself(
    tmp_path: Path,
    more: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not the number of classes or the file of labels, which are right."""
    monkeypatch.chdir(tmp_path)
    Path("labels.txt").write_text("a\nb\nc\nd\ne\n")
    spec = ModelSpec.named("1x6-1x8", size=32, classes=5, fc_width=16, hidden=1)
    save_file(VGG(spec).state_dict(), "w.safetensors")
    words = ["load", "--weights", "w.safetensors", "-o", "b", *more, "--size", "32", "--arch"]
    assert main([*words, "1x6-2x8"]) == 3
    error = capsys.readouterr().err
    assert "w.safetensors does not fit 1x6-2x8 (width 1, 3 channels, 5 classes): " in error
    assert "missing: blocks.1.2.weight, blocks.1.2.bias\n" in error
    assert main([*words, spec.arch]) == 0


@pytest.mark.parametrize(
    ("more", "taken"), [((), 4), (("--head", "gap"), 224), (("--size", "16"), None)]
)
def test_a_size_that_nothing_tells_is_said(
    tmp_path: Path,
    more: tuple[str, ...],
    taken: int | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Behind a global average every input size has the same classifier."""
    spec = ModelSpec.named("1x6-1x8", size=16, classes=5, hidden=0, head="gap")
    save_file(VGG(spec).state_dict(), tmp_path / "w.safetensors")
    words = ["load", "--weights", str(tmp_path / "w.safetensors"), "--arch", "1x6-1x8", *more]
    assert main([*words, "-o", str(tmp_path / "b")]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert (f" input size: {taken} px was taken, see --size" in said) == (taken is not None)
    own = open_bundle(tmp_path / "b")
    again = ["load", "--weights", weights_of(own), "--arch", "1x6-1x8"]
    assert main([*again, "-o", str(tmp_path / "again")]) == 0
    assert "see --size" not in capsys.readouterr().err


def test_a_size_of_zero_is_not_one_that_was_left_out(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file(load_state(tiny_bundle.path(tiny_bundle.checkpoint)), weights)
    arch = tiny_bundle.card.spec.arch
    words = ["load", "--weights", str(weights), "--arch", arch, "-o", str(tmp_path / "b")]
    assert main([*words, "--size", "0"]) == 2
    assert "size 0 is out of range" in capsys.readouterr().err
    assert main(words) == 0


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("blocks.0.0.weight", (0, 3, 3, 3)),
        ("blocks.0.0.weight", (4, 0, 3, 3)),
        ("head.fc8.weight", (0, 32)),
        ("head.fc8.weight", (1, 32)),
    ],
)
def test_shapes_that_make_no_network_are_the_files_fault(
    tiny_bundle: Bundle,
    tmp_path: Path,
    key: str,
    shape: tuple[int, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = load_state(tiny_bundle.path(tiny_bundle.checkpoint))
    torch.save({**state, key: torch.zeros(shape)}, tmp_path / "x.pth")
    words = ["--weights", str(tmp_path / "x.pth"), "--arch", tiny_bundle.card.spec.arch]
    assert main(["load", *words, "-o", str(tmp_path / "b")]) == 3
    assert "remedy: " in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_an_arch_whose_name_is_wrong_stays_the_command_lines_fault(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    torch.save(load_state(tiny_bundle.path(tiny_bundle.checkpoint)), tmp_path / "x.pth")
    words = ["--weights", str(tmp_path / "x.pth"), "--arch", "vgg12"]
    assert main(["load", *words, "-o", str(tmp_path / "b")]) == 2


def test_one_label_is_counted_as_one(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.txt").write_text("cat\n")
    words = ["load", "--weights", weights_of(tiny_bundle), "-o", str(tmp_path / "b")]
    assert main([*words, "--labels", str(tmp_path / "labels.txt")]) == 3
    assert "has 1 label for 10 classes" in " ".join(capsys.readouterr().err.split())
