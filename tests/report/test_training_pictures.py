"""Class names that matplotlib would read as formulas, or has no glyphs for."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from vgg_deploy.report import training_pictures
from vgg_deploy.report.training_pictures import confusion_png, curves_png, mistakes_png


@pytest.mark.parametrize("labels", [("p_$1_$2", "C$ and US$_"), ("猫", "犬")])
def test_any_class_name(tmp_path: Path, labels: tuple[str, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confusion_png(tmp_path / "x.png", labels, [[1, 2], [3, 4]])
        mistakes_png(tmp_path / "y.png", np.zeros((1, 8, 8, 3), np.uint8), [labels])
    assert (tmp_path / "x.png").stat().st_size > 1000
    assert (tmp_path / "y.png").stat().st_size > 1000


def test_every_curve_has_its_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that end close together, as they do: a label outside the axes would not be drawn."""
    rows = [
        {
            "epoch": epoch,
            "loss": loss,
            "train_accuracy": 1 - loss / 2,
            **{f"{split}_loss": loss for split in ("validation", "test")},
            **{f"{split}_accuracy": 1 - loss / 2 for split in ("validation", "test")},
        }
        for epoch, loss in ((1, 1.4), (2, 0.2))
    ]
    figures: list[Figure] = []
    monkeypatch.setattr(training_pictures, "_saved", lambda figure, _path: figures.append(figure))
    curves_png(tmp_path / "curves.png", rows)
    for axes, value in zip(figures[0].axes, ("0.200", "0.900"), strict=True):
        assert {text.get_text().strip() for text in axes.texts} == {
            f"{label} {value}" for label in ("train", "validation", "test")
        }
        bottom, top = axes.get_ylim()
        places = sorted(text.xy[1] for text in axes.texts if isinstance(text, Annotation))
        assert bottom < places[0]
        assert places[-1] < top
        assert min(np.diff(places)) > 0.05 * (top - bottom)


@pytest.mark.parametrize(
    ("file", "drawn"),
    [
        ("cat/1.png", "cat/1.png"),
        ("cat/" + "0123456789" * 3 + ".png", "…" + ("0123456789" * 3)[-21:] + ".png"),
        ("cat/\U00013000\n$.png", "cat/??$.png"),
    ],
)
def test_mistakes_have_the_names_of_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, drawn: str
) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(training_pictures, "_saved", lambda figure, _path: figures.append(figure))
    images = np.zeros((2, 8, 8, 3), np.uint8)
    mistakes_png(tmp_path / "m.png", images, [("a", "b")] * 2, files=[file, "x"])
    assert [axes.get_title() for axes in figures[0].axes] == [f"a\nas b\n{drawn}", "a\nas b\nx"]
