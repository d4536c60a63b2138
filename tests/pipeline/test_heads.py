"""Stages and layers of every head, in every format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.export.networks import CARDS, lively_bundle
from vgg_deploy.artifact import Format
from vgg_deploy.backends.base import Array
from vgg_deploy.backends.inner import inner_stages
from vgg_deploy.backends.ort_profile import operator_times
from vgg_deploy.backends.reference import stage_names, stages
from vgg_deploy.bench.layers import layer_timings
from vgg_deploy.bundle import open_bundle
from vgg_deploy.cli import main
from vgg_deploy.export import export
from vgg_deploy.model.layers import vgg_layers
from vgg_deploy.precision.observe import runner
from vgg_deploy.report.model_tables import blocks_table, model_table
from vgg_deploy.report.remade_checkpoint import checkpoint_command
from vgg_deploy.spec import ModelCard
from vgg_deploy.verify import onnx_stages

NAMES = ("grey", "hidden_1", "hidden_0", "gap", "head_2", "head_10")


def noise(card: ModelCard) -> Array:
    spec = card.spec
    shape = (2, spec.channels, spec.size, spec.size)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def cut_runs(path: Path, batch: Array, names: tuple[str, ...], folder: Path) -> dict[str, Array]:
    model = onnx_stages.read(path)
    found = {}
    for name, tensor in onnx_stages.stage_tensors(model, names).items():
        onnx_stages.cut(model, tensor, folder / "cut.onnx")
        run = runner(onnx_stages.read(folder / "cut.onnx"))
        (output,) = run(None, {"input": batch})
        found[name] = output.reshape(len(batch), -1)
    return found


@pytest.mark.parametrize("format", ["onnx", "torchscript", "program"])
@pytest.mark.parametrize("name", NAMES)
def test_the_stages_are_found_in_every_format(tmp_path: Path, name: str, format: Format) -> None:
    card, batch = CARDS[name], noise(CARDS[name])
    bundle, artifact, _ = export(lively_bundle(tmp_path / "b", card), format)
    names, path = stage_names(card.spec), bundle.path(artifact)
    if format == "onnx":
        found = cut_runs(path, batch, names, tmp_path)
    else:
        found = inner_stages(artifact, path, batch, names)
    exact = stages(bundle.path(bundle.checkpoint), batch)
    assert list(found) == list(exact)
    for stage in names:
        scale = np.abs(exact[stage]).max()
        np.testing.assert_allclose(found[stage], exact[stage], atol=1e-5 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_is_timed(tmp_path: Path, name: str) -> None:
    card = CARDS[name]
    bundle, artifact, _ = export(lively_bundle(tmp_path, card), "onnx")
    traces = operator_times(bundle.path(artifact), "fp32", noise(card), 2, lambda: None)
    timed = {timing.name for timing in layer_timings(vgg_layers(card.spec), traces)}
    products = {layer.name for layer in vgg_layers(card.spec) if layer.kind in ("conv", "fc")}
    assert len(products) == card.spec.weight_layers
    assert products <= timed
    assert ("avgpool" in timed) == (card.spec.head != "book")


def test_the_card_tells_the_head() -> None:
    for name, text in (
        ("hidden_1", "book, one hidden layer of 32"),
        ("hidden_0", "book, no hidden layer"),
        ("gap", "gap, no hidden layer"),
    ):
        assert ("Head", text) in [row.cells for row in model_table(CARDS[name]).rows]
    note = blocks_table(CARDS["hidden_1"].spec).note
    assert note == "Then fully connected: 128 → 32 → 10."


def test_a_shorter_head_is_trained_and_its_command_repeats_it(tmp_path: Path) -> None:
    words = "--arch 1x4-1x8 --width 1 --size 16 --hidden 0 --head gap --data sample --epochs 1"
    assert main(["train", *words.split(), "--max-images", "64", "-o", str(tmp_path / "b")]) == 0
    bundle = open_bundle(tmp_path / "b")
    spec = bundle.card.spec
    assert (spec.hidden, spec.head, spec.flat_features) == (0, "gap", 8)
    assert "--hidden 0 --head gap" in checkpoint_command(bundle, "b")


def test_the_summary_of_a_shorter_head(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "1x4-1x8", "--size", "16", "--hidden", "0", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["network"]["layers"]
    assert [layer["name"] for layer in layers if layer["kind"] == "fc"] == ["fc8"]
    assert main(["summary", "vgg11", "--hidden", "3"]) == 2
    assert "choose hidden from 0 to 2" in capsys.readouterr().err
