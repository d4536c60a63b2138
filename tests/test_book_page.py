"""The figures of docs/book.md are those that are counted."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from scripts.reproduce_book import NOTES, BookTable, Cell
from vgg_deploy import jsonio
from vgg_deploy.model.layers import Layer, alexnet_layers, vgg_layers
from vgg_deploy.spec import ModelSpec

DOCS = Path(__file__).parent.parent / "docs"
TEXT = " ".join((DOCS / "book.md").read_text("utf-8").split())


def vgg(arch: str, size: int = 224, width: float = 1.0) -> list[Layer]:
    return vgg_layers(ModelSpec.named(arch, size=size, width=width, channels=1, classes=10))


def counts(layers: list[Layer]) -> tuple[float, float, float, float]:
    """Multiply-adds, those of convolutions, parameters, bytes kept for the gradient."""
    return (
        sum(layer.macs for layer in layers),
        sum(layer.macs for layer in layers if layer.kind == "conv"),
        sum(layer.params for layer in layers),
        sum(layer.saved_bytes for layer in layers),
    )


@pytest.mark.parametrize(("name", "layers"), [("AlexNet", None), ("VGG-11", "vgg11")])
def test_beside_alexnet(name: str, layers: str | None) -> None:
    macs, convs, params, saved = counts(vgg(layers) if layers else alexnet_layers(224, 1, 10))
    row = f"| {name} | {macs / 1e9:.2f} G | {convs / 1e9:.2f} G | {params / 1e6:.1f} M | "
    assert row + f"{saved / 1e6:.1f} MB |" in TEXT


def test_ratios() -> None:
    one, other = counts(vgg("vgg11")), counts(alexnet_layers(224, 1, 10))
    ratios = " | ".join(f"{a / b:.1f}" for a, b in zip(one, other, strict=True))
    assert f"| ratio | {ratios} |" in TEXT
    large, small = counts(vgg("vgg11", 224, 0.25)), counts(vgg("vgg11", 96, 0.25))
    shown = ("{:.0f} M", "{:.0f} M", "{:.1f} M", "{:.1f} MB")
    for form, a, b in zip(shown, large, small, strict=True):
        assert f"| {form.format(a / 1e6)} | {form.format(b / 1e6)} | {a / b:.1f} |" in TEXT


@pytest.mark.parametrize("number", [11, 13, 16, 19])
def test_depths(number: int) -> None:
    layers = vgg(f"vgg{number}")
    macs, _, params, _ = counts(layers)
    convs = sum(layer.kind == "conv" for layer in layers)
    assert convs == number - 3
    assert f"| VGG-{number} | {convs} | {macs / 1e9:.2f} G | {params / 1e6:.1f} M |" in TEXT


def test_single_layers() -> None:
    layers = {layer.name: layer for layer in vgg("vgg11")}
    alexnet = alexnet_layers(224, 1, 10)
    outputs = sum(layer.output_bytes for layer in alexnet) / 1e6
    assert f"`conv1_1` alone is {layers['conv1_1'].output_bytes / 1e6:.1f} MB" in TEXT
    assert f"({outputs:.1f} MB)" in TEXT
    assert f"`conv2_1` costs {layers['conv2_1'].macs / 1e6:.0f} M" in TEXT
    assert layers["conv3_2"].macs == 2 * layers["conv2_1"].macs
    assert f"{layers['fc6'].params / 1e6:.1f} M of VGG's" in TEXT
    share = layers["fc6"].macs / sum(layer.macs for layer in layers.values())
    assert f"{layers['fc6'].macs / 1e6:.0f} M multiply-adds, {share:.1%}".replace("%", " %") in TEXT


def test_runs() -> None:
    cells = jsonio.load(BookTable, DOCS / "results" / "book.json").cells
    assert [cell.recipe for cell in cells] == ["book", "modern", "modern-bn"]
    for cell in cells:
        assert row_of(cell, f"`{cell.recipe}`") in TEXT
        assert (cell.cell, cell.notes) == ("vgg11@96", NOTES["vgg11@96"])


def test_the_runs_of_other_seeds() -> None:
    first, *_ = jsonio.load(BookTable, DOCS / "results" / "book.json").cells
    reached = [first.ours.test_accuracy]
    for seed in "123":
        (cell,) = jsonio.load(BookTable, DOCS / "results" / f"book_seed{seed}.json").cells
        assert (cell.cell, cell.recipe, cell.made_by["seed"]) == ("vgg11@96", "book", seed)
        assert row_of(cell, f"`book`, seed {seed}") in TEXT
        reached.append(cell.ours.test_accuracy)
    low, high, mean = min(reached), max(reached), fmean(reached)
    assert f"the four seeds have {low:.3f} to {high:.3f}, in the mean {mean:.3f}" in TEXT


def test_the_run_whose_epoch_held_out_images_choose() -> None:
    (cell,) = jsonio.load(BookTable, DOCS / "results" / "book_validation.json").cells
    assert (cell.recipe, cell.train_images, cell.made_by["validation_images"]) == (
        "book",
        54_000,
        "6000",
    )
    assert row_of(cell, "`book`, `--validation 0.1`") in TEXT


def row_of(cell: Cell, name: str) -> str:
    ours = cell.ours
    return (
        f"| {name} | {ours.loss:.3f} | {ours.train_accuracy:.3f} | {ours.test_accuracy:.3f} | "
        f"{cell.best_test_accuracy:.3f} | {ours.examples_per_second:.0f} |"
    )
