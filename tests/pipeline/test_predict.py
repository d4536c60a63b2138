"""``predict``: images one at a time, and none is told of where one cannot be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.faults.catalogue import record
from vgg_deploy.artifact import Target
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.data import preprocess
from vgg_deploy.data.images import read_image
from vgg_deploy.errors import DigestMismatch, RefusedInput
from vgg_deploy.export.baked import EmbeddedOptions
from vgg_deploy.manifest import MANIFEST, Draft
from vgg_deploy.pipeline import predict
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.predict import images_at, predict_images
from vgg_deploy.pipeline.watch import Silent
from vgg_deploy.pipeline.whole import require_card


class Counting(Silent):
    """What a watcher is told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(
        self, what: str, total: int | None = None, unit: str = "", *, seconds: float | None = None
    ) -> None:
        self.told.append(f"{what} {total} {unit}")

    def advance(self, done: int = 1) -> None:
        self.told.append(f"{done} done")


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{shade}.png" for shade in (10, 120, 250)]
    for path in paths:
        Image.fromarray(np.full((40, 30), int(path.stem), np.uint8)).save(path)
    return paths


def test_one_image_at_a_time_is_in_memory(
    two_formats: Bundle, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Counting()

    def noted(path: Path, channels: int) -> object:
        watch.told.append(path.name)
        return read_image(path, channels)

    monkeypatch.setattr(predict, "read_image", noted)
    found = predict_images(two_formats, images, backend="ort-cpu", watch=watch)
    assert [p.image for p in found] == [str(path) for path in images]
    each = [line for path in images for line in (path.name, "1 done")]
    assert watch.told == ["predict 3 images", *each]


def test_what_is_no_image_is_refused_before_any_is_run(
    two_formats: Bundle, images: list[Path]
) -> None:
    images[-1].write_bytes(b"no image")
    watch = Counting()
    with pytest.raises(RefusedInput, match=r"250\.png is not an image"):
        predict_images(two_formats, images, backend="ort-cpu", watch=watch)
    assert not watch.told


def damage(path: Path) -> None:
    """Cut in half: its header is whole."""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def test_a_damaged_image_costs_no_other_one_its_result(
    two_formats: Bundle, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(images[0])
    images[1].write_bytes(b"no image")
    words = ["predict", str(two_formats.root), *map(str, images), "-b", "ort-cpu"]
    assert main(words) == 3
    out, err = capsys.readouterr()
    assert str(images[2]) in out
    assert not any(str(path) in out for path in images[:2])
    assert f"left out: {images[0]} is a truncated or damaged image" in err
    assert f"left out: {images[1]} is not an image that Pillow can read" in err
    assert "error: 2 of 3 images could not be read\n  remedy: give an 8-bit or 16-bit PNG" in err
    assert main([*words, "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert [one["image"] for one in document] == list(map(str, images))
    assert ["error" in one for one in document] == [True, True, False]
    images[1].write_bytes(b"")
    assert main(words) == 3
    assert "  remedy: see the reasons above\n" in capsys.readouterr().err, "none fits both"


def test_one_image_that_is_damaged(
    two_formats: Bundle, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    damage(images[0])
    assert main(["predict", str(two_formats.root), str(images[0]), "-b", "ort-cpu"]) == 3
    out, err = capsys.readouterr()
    assert not out
    assert f"error: {images[0]} is a truncated or damaged image" in err


def test_json_has_the_place_of_each_class_and_its_logit(
    two_formats: Bundle, images: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(two_formats.root), str(images[0]), "-b", "ort-cpu", "--json"]
    assert main([*words, "--top", "10"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    labels = two_formats.card.labels
    assert [labels[i] for i in found["indices"]] == [label for label, _ in found["classes"]]
    assert sorted(found["indices"]) == list(range(10))
    shares = np.exp(found["logits"]) / np.exp(found["logits"]).sum()
    assert np.allclose(shares, [share for _, share in found["classes"]])


def test_a_folder_is_all_images_below_it(two_formats: Bundle, images: list[Path]) -> None:
    root = images[0].parent / "photos"
    (root / "b").mkdir(parents=True)
    names = ("b/10.png", "a.png", ".hidden.png", "b/x.txt")
    for name in names:
        (root / name).write_bytes(images[0].read_bytes())
    paths = images_at([images[1], root])
    assert paths == [images[1], root / "a.png", root / "b" / "10.png"]
    assert len(predict_images(two_formats, paths, backend="ort-cpu")) == 3
    (root / "b" / "none").mkdir()
    with pytest.raises(RefusedInput, match="none holds no images"):
        images_at([root / "b" / "none"])


@pytest.mark.parametrize("count", [1, 2])
def test_paths_are_shown_whole_where_nobodys_terminal_decides(
    two_formats: Bundle, images: list[Path], capsys: pytest.CaptureFixture[str], count: int
) -> None:
    folder = images[0].parent / ("long name " * 15) / ("another " * 15)
    folder.mkdir(parents=True)
    for index in range(count):
        (folder / f"{index}.png").write_bytes(images[index].read_bytes())
    assert main(["predict", str(two_formats.root), str(folder), "-b", "ort-cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for index in range(count):
        assert sum(str(folder / f"{index}.png") in line for line in lines) == 1
    classes = sum("%" in line for line in lines)
    assert classes == (5 if count == 1 else 2)  # a row per class, or per image


@pytest.mark.parametrize("embedded", [True, False])
def test_a_strip_that_would_fill_the_memory_is_refused(
    two_formats: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded: bool
) -> None:
    """Also where the file preprocesses itself: its weights are as large."""
    bundle = two_formats
    if embedded:
        options = EmbeddedOptions()
        bundle = export_bundle(bundle, ("onnx",), embedded=options)[0]
    monkeypatch.setattr(preprocess, "_MOST_WEIGHTS", 32 * 1000)
    for length in (1000, 1001):
        Image.fromarray(np.full((1, length), 9, np.uint8)).save(tmp_path / f"{length}.png")
    assert predict_images(bundle, [tmp_path / "1000.png"], backend="ort-cpu")
    with pytest.raises(RefusedInput, match=r"1001×1 pixels is longer than the 1,000"):
        predict_images(bundle, [tmp_path / "1001.png"], backend="ort-cpu")


def labels_swapped(card: dict[str, Any]) -> None:
    card["labels"][:2] = card["labels"][1::-1]


def another_mean(card: dict[str, Any]) -> None:
    card["preprocessing"]["mean"] = [0.1]


@pytest.mark.parametrize("edit", [labels_swapped, another_mean])
@pytest.mark.parametrize("backend", ["ort-cpu", "torchscript", "torch"])
def test_an_edited_manifest_is_exit_4(
    two_formats: Bundle,
    images: list[Path],
    capsys: pytest.CaptureFixture[str],
    edit: Callable[[dict[str, Any]], None],
    backend: str,
) -> None:
    edit_card(two_formats, edit)
    assert main(["predict", str(two_formats.root), str(images[0]), "-b", backend]) == 4
    out, err = capsys.readouterr()
    assert not out
    assert "holds other " in err
    assert "remedy: restore manifest.json" in err


def edit_card(bundle: Bundle, edit: Callable[[dict[str, Any]], None]) -> None:
    path = bundle.root / MANIFEST
    document = json.loads(path.read_text())
    edit(document["card"])
    path.write_text(json.dumps(document))


@pytest.mark.parametrize("shipped", ["whole", "without its checkpoint"])
def test_an_engine_has_the_labels_of_the_checkpoint(two_formats: Bundle, shipped: str) -> None:
    source = two_formats.find("onnx")
    assert source is not None
    bundle, engine = two_formats.add(
        Draft(
            format="engine",
            precision="fp32",
            input=source.input,
            output=source.output,
            parent=source.sha256,
            made_by={},
            target=Target(flavour="tensorrt", version="10.14", compute_capability="8.9"),
        ),
        lambda path: void(path.write_bytes(b"a plan")),
    )
    require_card(bundle, engine)
    edit_card(bundle, labels_swapped)
    if shipped == "whole":
        with pytest.raises(DigestMismatch, match=r"checkpoint\.safetensors holds other labels"):
            require_card(open_bundle(bundle.root), engine)
    else:
        bundle.path(bundle.checkpoint).unlink()
        require_card(open_bundle(bundle.root), engine)


def void(value: object) -> None:
    del value


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_no_prediction(
    value: float,
    precision: str,
    onnx_bundle: Bundle,
    images: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Planted: one bias of the last layer, as an overflow would leave it."""
    bundle = onnx_bundle
    if precision != "fp32":
        bundle = export_bundle(bundle, ("onnx",), precisions=(precision,))[0]
    artifact = next(a for a in bundle.artifacts if (a.format, a.precision) == ("onnx", precision))
    model = onnx.load(str(bundle.path(artifact)))
    (bias,) = [tensor for tensor in model.graph.initializer if list(tensor.dims) == [10]]
    values = onnx.numpy_helper.to_array(bias).copy()
    values[3] = value
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    record(bundle, artifact, lambda path: onnx.save(model, str(path)))
    words = ["predict", str(bundle.root), *map(str, images), "-b", "ort-cpu", "-p", precision]
    assert main(words) == 3
    out, err = capsys.readouterr()
    assert not out
    assert f"model.{precision}.onnx gives NaN or infinity for {images[0]}" in err
    assert ("use the fp32 or bf16 file" in err) == (precision == "fp16")


@pytest.mark.parametrize("backend", [[], ["-b", "ort-cpu"]])
def test_tf32_is_not_to_be_exported(
    backend: list[str],
    onnx_bundle: Bundle,
    images: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["predict", str(onnx_bundle.root), str(images[0]), "-p", "tf32", *backend]
    assert main(words) == 3
    said = capsys.readouterr().err
    assert "vgg-deploy export" not in said
    assert "no ONNX file is in tf32: leave out --precision" in said
    assert f"vgg-deploy build {onnx_bundle.root} --precision tf32" in said
