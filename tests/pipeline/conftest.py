"""The bundle that the tests of verify share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.export.networks import lively_bundle
from tests.faults.bases import card
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.pipeline.export import export_bundle


@pytest.fixture(scope="package")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """fp32 and fp16 ONNX, a script and a program of one lively network; never write to it."""
    root = tmp_path_factory.mktemp("made") / "bundle"
    bundle = lively_bundle(root, card("1x8-1x16-3x32"))
    return export_bundle(bundle, ("onnx", "torchscript", "program"), precisions=("fp16",))[0].root


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Bundle:
    return open_bundle(shutil.copytree(made, tmp_path / "bundle"))
