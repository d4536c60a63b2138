"""The bundles that tests of verify share, and one that was trained on photos."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.export.networks import lively_bundle
from tests.faults.bases import card
from tests.pipeline.training import OPTIONS, SAMPLE
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.train import train_bundle


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle trained on the photos."""
    options = replace(OPTIONS, epochs=6, batch=16, lr=0.05)
    request = replace(SAMPLE, data=str(photos), options=options)
    return train_bundle(tmp_path_factory.mktemp("b") / "bundle", request)


@pytest.fixture
def own(trained: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the trained bundle, elsewhere."""
    return open_bundle(shutil.copytree(trained.root, tmp_path / "own"))


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32 and fp16 ONNX, a script and a program of one lively network; never write to it."""
    root = tmp_path_factory.mktemp("made") / "bundle"
    bundle = lively_bundle(root, card("1x8-1x16-3x32"))
    return export_bundle(bundle, ("onnx", "torchscript", "program"), precisions=("fp16",))[0].root


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(made, tmp_path / "bundle"))
