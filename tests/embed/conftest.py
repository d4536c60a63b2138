"""Bundles with an embedded ONNX file and golden vectors, made once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.export.networks import lively_bundle, named
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.cli import main
from vgg_deploy.embed import TABLE, TargetName
from vgg_deploy.embed.write import PRECISIONS

# Text that breaks careless quoting in JSON, Markdown, C, protobuf and HTML.
LABELS = (
    "shirt",
    'a "quoted"',
    "back\\slash",
    "Schuh für Läufer",
    "靴",
    "<b>",
    "a: b",
    "x  y\u00a0z",
)
TWO = ("cat", "dog")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("embed") / "bundle"
    words = [word for precision in PRECISIONS for word in ("--precision", precision)]
    make(root, LABELS, *words, "--calibration-data", "sample")
    return root


@pytest.fixture(scope="session")
def two_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("two") / "bundle"
    make(root, TWO)
    return root


@pytest.fixture(scope="session")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model in all that an app may tell: channels, size, classes, precision."""
    root = tmp_path_factory.mktemp("grey") / "bundle"
    make(root, (*TWO, "cow"), "--precision", "fp16", channels=1, size=48)
    return root


def make(
    root: Path, labels: tuple[str, ...], *words: str, channels: int = 3, size: int = 32
) -> None:
    card = named("1x8-1x16-2x16", size=size, channels=channels)
    card = replace(card, spec=replace(card.spec, classes=len(labels)), labels=labels, dataset=None)
    lively_bundle(root, card)
    assert main(["export", str(root), "--format", "onnx", "--embedded", *words]) == 0


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Bundle:
    """A copy that a test may spoil."""
    root = tmp_path / "bundle"
    shutil.copytree(made, root)
    return open_bundle(root)


def lacking(target: TargetName) -> str:
    """The tools of a target that cannot be used here; empty if all can."""
    missing = [problem for tool in TABLE[target].tools if (problem := tool.problem())]
    return f"needs {', '.join(missing)}" if missing else ""


def program(folder: Path, name: str, script: str) -> Path:
    """A stand-in for a tool."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path
