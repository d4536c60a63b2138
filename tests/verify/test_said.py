"""What files say of themselves."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from tests.export.networks import lively_bundle, named
from vgg_deploy.bundle import Bundle
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.verify.said import contradiction, onnx_metadata

FORMATS = ("onnx", "torchscript", "program")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    made = lively_bundle(tmp_path_factory.mktemp("said") / "bundle", named("1x4-1x8"))
    return export_bundle(made, FORMATS)[0]


@pytest.mark.parametrize("format", FORMATS)
def test_a_right_file_agrees(bundle: Bundle, format: str) -> None:
    artifact = bundle.find(format)  # type: ignore[arg-type]
    assert artifact is not None
    assert contradiction(bundle.path(artifact), artifact.format, bundle.card) is None
    card = replace(bundle.card, labels=bundle.card.labels[::-1])
    assert "other labels" in str(contradiction(bundle.path(artifact), artifact.format, card))
    other = replace(bundle.card.preprocessing, mean=(0.1, 0.2, 0.3))
    card = replace(bundle.card, preprocessing=other)
    assert "preprocessing" in str(contradiction(bundle.path(artifact), artifact.format, card))


def test_metadata_are_read_without_the_weights(bundle: Bundle) -> None:
    artifact = bundle.find("onnx")
    assert artifact is not None
    path = bundle.path(artifact)
    whole = {p.key: p.value for p in onnx.load(str(path)).metadata_props}
    assert onnx_metadata(path) == whole
    assert "vgg_deploy.labels" in whole


def test_labels_nested_too_deeply_are_others(tmp_path: Path, bundle: Bundle) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/extra/labels.json", "[" * 100_000)
    assert "other labels" in str(contradiction(path, "torchscript", bundle.card))


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"\x08", b"\xff" * 50, b"\x3a\xff\xff\xff\xff\x0f"]
)
def test_rubbish_says_nothing(tmp_path: Path, content: bytes, bundle: Bundle) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    for format in FORMATS:
        assert contradiction(path, format, bundle.card) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("field", [b"\x42", b"\x3a"], ids=["metadata", "graph"])
@pytest.mark.parametrize("length", [b"\xff" * 6 + b"\x01", b"\xff" * 9 + b"\x01"])
def test_a_length_beyond_the_file_says_nothing(
    tmp_path: Path, bundle: Bundle, field: bytes, length: bytes
) -> None:
    """More than memory holds, and more than a file's place can be."""
    path = tmp_path / "x.onnx"
    path.write_bytes(field + length)
    assert contradiction(path, "onnx", bundle.card) is None


@pytest.mark.parametrize(
    ("place", "content"),
    [(6, b"\xff"), (8, b"\x01"), (10, b"\x63"), (10, b"\x08"), (42, b"\xff\xff\xff\x00")],
    ids=["version", "password", "method", "deflated", "offset"],
)
def test_a_damaged_archive_says_nothing(
    tmp_path: Path, bundle: Bundle, place: int, content: bytes
) -> None:
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/extra/labels.json", "[]")
    damaged = bytearray(path.read_bytes())
    place += damaged.index(b"PK\x01\x02")  # the entry in the central directory
    damaged[place : place + len(content)] = content
    path.write_bytes(damaged)
    assert contradiction(path, "torchscript", bundle.card) is None
