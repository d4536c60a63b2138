"""Class names that matplotlib would read as formulas, or has no glyphs for."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from vgg_deploy.report.training_pictures import confusion_png, mistakes_png


@pytest.mark.parametrize("labels", [("p_$1_$2", "C$ and US$_"), ("猫", "犬")])
def test_any_class_name(tmp_path: Path, labels: tuple[str, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confusion_png(tmp_path / "x.png", labels, [[1, 2], [3, 4]])
        mistakes_png(tmp_path / "y.png", np.zeros((1, 8, 8, 3), np.uint8), [labels])
    assert (tmp_path / "x.png").stat().st_size > 1000
    assert (tmp_path / "y.png").stat().st_size > 1000
