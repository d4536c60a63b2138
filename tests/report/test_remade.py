"""The commands that make a bundle's files again, as its records tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from tests.conftest import make_card
from vgg_deploy.artifact import Artifact, Format, Precision, TensorSpec
from vgg_deploy.bundle import Bundle
from vgg_deploy.libraries import import_torchvision
from vgg_deploy.model.checkpoint import input_spec, output_spec
from vgg_deploy.model.torchvision import WEIGHTS
from vgg_deploy.report.remade_checkpoint import checkpoint_command
from vgg_deploy.report.remade_files import export_commands
from vgg_deploy.spec import ModelCard, ModelSpec, unnamed_labels


def one(format: Format, precision: Precision, **made_by: str) -> Artifact:
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", "any"), layout="NC")
    return Artifact(
        path=PurePosixPath(f"{format}.{precision}"), format=format, precision=precision,
        input=spec, output=spec, target=None, sha256="", size_bytes=0, parent=None, made_by=made_by,
    )  # fmt: skip


def measured(precision: Precision, data: str, images: int = 128) -> Artifact:
    return one("onnx", precision, calibration_wanted=data, calibration_images=str(images))


def exported(bundle: Bundle, dataset: str | None, *artifacts: Artifact) -> list[str]:
    card = replace(bundle.card, dataset=dataset)
    manifest = replace(bundle.manifest, card=card, artifacts=artifacts)
    start = "vgg-deploy export x "
    lines = export_commands(Bundle(bundle.root, manifest), "x")
    assert all(line.startswith(start) for line in lines)
    return [line.removeprefix(start) for line in lines]


def test_each_calibration_has_its_line(sample: Bundle) -> None:
    files = (
        one("onnx", "fp32"),
        measured("fp16", "sample"),
        one("onnx", "bf16"),
        measured("int8", "fashion-mnist"),
        measured("fp8", "sample", images=512),
    )
    assert exported(sample, None, *files) == [
        "--format onnx --precision fp16 --calibration-data sample",
        "--format onnx --precision bf16",
        "--format onnx --precision int8 --calibration-data fashion-mnist",
        "--format onnx --precision fp8 --calibration-data sample --calibration-images 512",
    ]


@pytest.mark.parametrize(
    ("dataset", "data", "words"),
    [
        ("sample", "sample", ""),
        ("fashion-mnist", "fashion-mnist", ""),
        ("fashion-mnist", "sample", " --calibration-data sample"),
        (None, "sample", " --calibration-data sample"),
        ("imagenet-1k", "sample", " --calibration-data sample"),
        ("folder photos", "my/photos", " --calibration-data my/photos"),
    ],
)
def test_the_calibration_data_is_left_out_where_it_is_the_models_own(
    sample: Bundle, dataset: str | None, data: str, words: str
) -> None:
    assert exported(sample, dataset, one("onnx", "fp32"), measured("int8", data)) == [
        f"--format onnx --precision int8{words}"
    ]


def test_embedded_files_repeat_the_calibration_of_their_plain_ones(sample: Bundle) -> None:
    files = (
        one("onnx", "fp32"),
        measured("fp16", "sample"),
        measured("int8", "sample", images=512),
        one("embedded", "fp32"),
        one("embedded", "fp16"),
        one("embedded", "int8"),
    )
    assert exported(sample, "sample", *files)[2:] == [
        "--format onnx --precision fp32 --precision fp16 --embedded",
        "--format onnx --precision int8 --calibration-images 512 --embedded",
    ]


def loaded(bundle: Bundle, card: ModelCard, weights: str) -> str:
    checkpoint = replace(
        bundle.checkpoint,
        input=input_spec(card),
        output=output_spec(card),
        made_by={"weights": weights},
    )
    manifest = replace(bundle.manifest, card=card, artifacts=(checkpoint,))
    return checkpoint_command(Bundle(bundle.root, manifest), "x")


def test_labels_that_an_earlier_load_was_given_are_known_by_comparison(sample: Bundle) -> None:
    own = make_card()  # with labels, of no data set
    assert loaded(sample, own, "w.pth").endswith("  # FILE: the names of its classes, one per line")
    unnamed = replace(own, labels=unnamed_labels(10))
    assert loaded(sample, unnamed, "w.pth").startswith("vgg-deploy load --weights w.pth")
    trained = replace(own, dataset="sample")
    assert loaded(sample, trained, "w.safetensors").startswith("vgg-deploy load")


@pytest.mark.parametrize("name", WEIGHTS)
def test_torchvisions_own_labels_are_known(sample: Bundle, name: str) -> None:
    names = import_torchvision("torchvision.models").get_weight(name).meta["categories"]
    card = make_card(size=224, channels=3)
    card = ModelCard(
        spec=ModelSpec.named("vgg11", head="torchvision"),
        preprocessing=card.preprocessing,
        labels=tuple(names),
        dataset="imagenet-1k",
    )
    assert loaded(sample, card, name) == f"vgg-deploy load --weights {name} -o x"
    renamed = replace(card, labels=("mine", *names[1:]))
    assert loaded(sample, renamed, name).startswith("# vgg-deploy load")


@pytest.mark.parametrize(("width", "text"), [(1 / 3, repr(1 / 3)), (1.0, "1"), (0.25, "0.25")])
def test_a_width_is_the_number_that_was_used(sample: Bundle, width: float, text: str) -> None:
    card = replace(sample.card, spec=replace(sample.card.spec, width=width))
    checkpoint = replace(sample.checkpoint, made_by={"command": "train"})
    manifest = replace(sample.manifest, card=card, artifacts=(checkpoint,))
    words = checkpoint_command(Bundle(sample.root, manifest), "x").split()
    assert words[words.index("--width") + 1] == text


@pytest.mark.parametrize(
    ("recipe", "flipped", "told"),
    [
        ("modern", "True", []),
        ("modern", "False", ["--no-flip"]),
        ("book", "False", []),
        ("book", "True", ["--flip"]),
        ("modern", None, []),
    ],
)
def test_flips_that_are_not_the_recipes(
    sample: Bundle, recipe: str, flipped: str | None, told: list[str]
) -> None:
    said = {} if flipped is None else {"recipe_flip": flipped}
    checkpoint = replace(sample.checkpoint, made_by={"command": "train", "recipe": recipe, **said})
    manifest = replace(sample.manifest, artifacts=(checkpoint,))
    words = checkpoint_command(Bundle(sample.root, manifest), "x").split()
    assert [word for word in words if "flip" in word] == told
