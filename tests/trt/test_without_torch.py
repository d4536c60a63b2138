"""A machine that runs engines, and one that builds them, needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vgg_deploy.bundle import Bundle

WITHOUT = "import sys; sys.modules.update(torch=None, torchvision=None, onnxscript=None)"
ENGINE = """
from pathlib import Path
import numpy as np
from tests.trt.helpers import backend_of, built, fake_of
from vgg_deploy.bundle import open_bundle
from vgg_deploy.pipeline import predict
from vgg_deploy.trt.flavour import load

root, image = map(Path, sys.argv[1:])
fake = fake_of("11")
bundle, engine, _ = built(open_bundle(root), fake)
backend = backend_of(fake)
with backend.open(engine, root) as session:
    assert session(np.ones((2, 1, 32, 32), np.float32)).shape == (2, 10)
    run = session.bind(np.ones((4, 1, 32, 32), np.float32))
    run()
    session.sync()
predict.BACKENDS, predict.get_backend = {"trt": backend}, lambda name: backend
(found,) = predict.predict_images(bundle, [image])
assert found.artifact == str(engine.path), found
"""
BUILD = """
from vgg_deploy.cli import main

assert main(["build", sys.argv[1], "--flavour", "tensorrt-rtx", "--compute-capability", "8.9"]) == 0
"""


def run(script: str, *words: object) -> None:
    command = [sys.executable, "-c", WITHOUT + script, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_engine_is_built_opened_and_asked(bundle: Bundle, tmp_path: Path) -> None:
    """The library and the driver are fakes, all between them and the user is real."""
    image = tmp_path / "x.png"
    Image.fromarray(np.full((40, 30), 120, np.uint8)).save(image)
    run(ENGINE, bundle.root, image)


def test_a_real_engine_is_built(bundle: Bundle) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="pip install vgg-deploy[rtx]")
    run(BUILD, bundle.root)
