"""A bundle with an ONNX file, a fake of each TensorRT, and somebody who is told the progress."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import make_bundle, make_card
from tests.trt.fake_tensorrt import VERSIONS, Fake
from tests.trt.helpers import fake_of
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.pipeline.export import export_bundle


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with its fp32 ONNX file, made once; tests get a copy."""
    made = make_bundle(tmp_path_factory.mktemp("trt") / "bundle", make_card())
    return export_bundle(made, ("onnx",))[0].root


@pytest.fixture
def bundle(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return open_bundle(Path(shutil.copytree(exported, tmp_path / "bundle")))


@pytest.fixture(params=VERSIONS)
def fake(request: pytest.FixtureRequest) -> Fake:
    """Each version in turn."""
    return fake_of(request.param)
