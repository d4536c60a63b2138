"""Bundles with a plain ONNX file, each exported once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from tests.export.networks import lively_bundle
from vgg_deploy import jsonio
from vgg_deploy.artifact import Artifact
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.export import export
from vgg_deploy.export.baked import EmbeddedOptions
from vgg_deploy.export.embedded import export_embedded
from vgg_deploy.spec import ModelCard

Plain = Callable[[ModelCard], Bundle]


class Embedded(Protocol):
    def __call__(
        self, card: ModelCard, options: EmbeddedOptions | None = None, /
    ) -> tuple[Bundle, Artifact]: ...


@pytest.fixture(scope="session")
def plain_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ModelCard], Path]:
    """The folder of a card's bundle; it belongs to all tests."""
    made: dict[str, Path] = {}

    def get(card: ModelCard) -> Path:
        key = jsonio.dumps(card)
        if key not in made:
            root = tmp_path_factory.mktemp("plain") / "bundle"
            made[key] = export(lively_bundle(root, card), "onnx")[0].root
        return made[key]

    return get


@pytest.fixture
def plain(plain_of: Callable[[ModelCard], Path], tmp_path: Path) -> Plain:
    """A copy of a card's bundle, with its ONNX file."""
    return lambda card: open_bundle(shutil.copytree(plain_of(card), tmp_path / "bundle"))


@pytest.fixture
def embedded(plain: Plain) -> Embedded:
    """Such a copy and its file for other apps."""

    def make(card: ModelCard, options: EmbeddedOptions | None = None, /) -> tuple[Bundle, Artifact]:
        bundle, artifact, _ = export_embedded(plain(card), options=options)
        return bundle, artifact

    return make
