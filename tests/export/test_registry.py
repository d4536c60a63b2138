"""Which artifact is made, which is reused, which request is refused."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from dataclasses import replace
from typing import cast

import pytest

from vgg_deploy.artifact import FORMATS, Format
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.errors import (
    DigestMismatch,
    ResourceLimit,
    UsageError,
)
from vgg_deploy.export import EXPORT_FORMATS, ExportOptions, export, to_onnx
from vgg_deploy.export.described import manifest_problem
from vgg_deploy.pipeline.export import export_bundle


def test_formats() -> None:
    assert set(EXPORT_FORMATS) == set(FORMATS) - {"checkpoint", "embedded", "engine"}


@pytest.mark.parametrize("format", ["checkpoint", "engine", "onx"])
def test_unknown_format(tiny_bundle: Bundle, format: str) -> None:
    with pytest.raises(UsageError, match=f"unknown export format '{format}'") as caught:
        export(tiny_bundle, cast("Format", format))
    assert "torchscript, program, aoti, onnx" in caught.value.remedy
    if format == "onx":
        assert "did you mean 'onnx'" in caught.value.remedy


@pytest.mark.parametrize("max_batch", [1, 0, 1 << 21])
def test_options_are_checked(max_batch: int) -> None:
    with pytest.raises(UsageError, match="max batch"):
        ExportOptions(max_batch=max_batch)


@pytest.mark.parametrize("format", ["torchscript", "program", "onnx"])
def test_record(tiny_bundle: Bundle, format: Format) -> None:
    bundle, artifact, reused = export(tiny_bundle, format)
    assert not reused
    assert artifact == bundle.find(format)
    assert open_bundle(bundle.root) == bundle
    assert artifact.parent == bundle.checkpoint.sha256
    assert {"vgg-deploy", "torch"} <= set(artifact.made_by)
    assert all(isinstance(value, str) for value in artifact.made_by.values())
    bundle.check()


def test_reuse(tiny_bundle: Bundle) -> None:
    bundle, first, _ = export(tiny_bundle, "program")
    before = bundle.path(first).stat()
    bundle, second, reused = export(bundle, "program")
    assert reused
    assert first == second
    assert bundle.path(second).stat().st_mtime_ns == before.st_mtime_ns


def test_other_options_are_made_again(tiny_bundle: Bundle) -> None:
    bundle, first, _ = export(tiny_bundle, "program")
    bundle, second, reused = export(bundle, "program", options=ExportOptions(max_batch=8))
    assert not reused
    assert (first.made_by["max_batch"], second.made_by["max_batch"]) == ("1024", "8")


def test_other_versions_are_made_again(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, _, _ = export(tiny_bundle, "onnx")
    monkeypatch.setattr(to_onnx, "versions", lambda *names: dict.fromkeys(names, "9.9"))
    bundle, artifact, reused = export(bundle, "onnx")
    assert not reused
    assert artifact.made_by["onnxscript"] == "9.9"


def test_a_damaged_file_is_made_again(tiny_bundle: Bundle) -> None:
    bundle, first, _ = export(tiny_bundle, "onnx")
    bundle.path(first).write_bytes(b"damaged")
    bundle, second, reused = export(bundle, "onnx")
    assert not reused
    assert first.sha256 == second.sha256
    bundle.check()


def test_an_artifact_of_another_checkpoint_is_made_again(tiny_bundle: Bundle) -> None:
    bundle, artifact, _ = export(tiny_bundle, "torchscript")
    foreign = replace(artifact, parent="0" * 64)
    manifest = replace(bundle.manifest, artifacts=(bundle.checkpoint, foreign))
    assert not export(Bundle(bundle.root, manifest), "torchscript")[2]


@pytest.mark.parametrize("exported_before", [False, True])
def test_an_edited_checkpoint(tiny_bundle: Bundle, exported_before: bool) -> None:
    bundle = export(tiny_bundle, "onnx")[0] if exported_before else tiny_bundle
    path = bundle.path(bundle.checkpoint)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DigestMismatch, match="was changed"):
        export(bundle, "onnx")


def test_a_manifest_of_another_model(tiny_bundle: Bundle) -> None:
    """Also where the file is there already: int8 would be calibrated by that manifest."""
    exported = export(tiny_bundle, "onnx")[0]
    card = replace(tiny_bundle.card, labels=tuple("zyxwvutsrq"))
    for bundle in (tiny_bundle, exported):
        edited = Bundle(bundle.root, replace(bundle.manifest, card=card))
        with pytest.raises(DigestMismatch, match="other labels than the checkpoint"):
            export(edited, "onnx")
    edited = Bundle(exported.root, replace(exported.manifest, card=card))
    for precisions in ((), ("int8",)):
        with pytest.raises(DigestMismatch, match="describes another model"):
            export_bundle(edited, ("onnx",), precisions=precisions)
    assert exported.find("onnx", "int8") is None


def test_the_manifest_of_a_bundle_without_its_checkpoint_is_not_doubted(
    tiny_bundle: Bundle,
) -> None:
    path = tiny_bundle.path(tiny_bundle.checkpoint)
    assert manifest_problem(tiny_bundle) is None
    path.write_bytes(b"rubbish")
    assert manifest_problem(tiny_bundle) is None, "its digest tells that"
    path.unlink()
    assert manifest_problem(tiny_bundle) is None


def test_a_disk_that_is_too_small(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _offset: int, _size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(ResourceLimit, match=r"export to onnx, which needs 2 MB of disk in .*left"):
        export(tiny_bundle, "onnx")


def test_a_file_system_without_preallocation(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(_descriptor: int, _offset: int, _size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    assert not export(tiny_bundle, "program")[2]


def test_import_is_light() -> None:
    code = "import sys, vgg_deploy.export; print('torch' in sys.modules, 'onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
