"""The sample bundle of the report's tests, made once and copied."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.report.samples import make_sample
from vgg_deploy.bundle import Bundle, open_bundle


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report") / "fmnist"
    make_sample(root)
    return root


@pytest.fixture
def sample(made_once: Path, tmp_path: Path) -> Bundle:
    root = tmp_path / "fmnist"
    shutil.copytree(made_once, root)
    return open_bundle(root)
