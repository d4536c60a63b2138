"""Reuse, refusals, and what an interrupted export leaves behind: nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from tests.conftest import make_bundle, make_card
from vgg_deploy.artifact import FORMATS, Format
from vgg_deploy.bundle import Bundle, Draft, open_bundle
from vgg_deploy.errors import (
    BackendNotAvailable,
    DigestMismatch,
    RefusedInput,
    ResourceLimit,
    UsageError,
)
from vgg_deploy.export import EXPORT_FORMATS, ExportOptions, aoti_missing, export, to_onnx
from vgg_deploy.model.checkpoint import input_spec, output_spec


def old_artifact(bundle: Bundle, format: Format) -> Bundle:
    """Enter a file of other options under the name the export will take."""
    draft = Draft(
        format=format,
        precision="fp32",
        input=input_spec(bundle.card),
        output=output_spec(bundle.card),
        parent=bundle.checkpoint.sha256,
        made_by={"made_by": "an older version"},
    )
    return bundle.add(draft, lambda path: cast("None", path.write_bytes(b"old")))[0]


def test_formats() -> None:
    assert set(EXPORT_FORMATS) == set(FORMATS) - {"checkpoint", "engine"}


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
    card = replace(tiny_bundle.card, labels=tuple("zyxwvutsrq"))
    bundle = Bundle(tiny_bundle.root, replace(tiny_bundle.manifest, card=card))
    with pytest.raises(RefusedInput, match="describes another model"):
        export(bundle, "onnx")


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


def half_written(error: BaseException) -> Callable[..., Any]:
    """A writer that gets as far as some bytes of its file."""

    def write(*args: Any, **_options: Any) -> None:
        for argument in args:
            if isinstance(argument, str | Path):
                Path(argument).write_bytes(b"half")
        raise error

    return write


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (OSError(errno.ENOSPC, "No space left on device"), ResourceLimit),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), ResourceLimit),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), ResourceLimit),
        (MemoryError(), ResourceLimit),
        (ModuleNotFoundError("No module named 'x'", name="x"), BackendNotAvailable),
        (RuntimeError("another"), RuntimeError),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.parametrize("format", EXPORT_FORMATS)
def test_an_interrupted_export_changes_nothing(
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    format: Format,
    error: BaseException,
    seen: type[BaseException],
) -> None:
    bundle = old_artifact(tiny_bundle, format)
    before = {path.name: path.read_bytes() for path in bundle.root.iterdir()}
    place = {
        "torchscript": (torch.jit, "save"),
        "program": (torch.export, "save"),
        "aoti": (torch._inductor, "aot_compile"),
        "onnx": (to_onnx, "_check"),
    }[format]
    monkeypatch.setattr(*place, half_written(error))
    monkeypatch.setattr(to_onnx, "made_by", lambda _options: {"torch": "x"})
    if format == "aoti":
        monkeypatch.setenv("CXX", sys.executable)  # found, never called
    with pytest.raises(seen):
        export(bundle, format)
    assert {path.name: path.read_bytes() for path in bundle.root.iterdir()} == before


_FULL = """
import resource, sys
from pathlib import Path
from vgg_deploy.bundle import open_bundle
from vgg_deploy.errors import ResourceLimit
from vgg_deploy.export import export
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
for format in ("torchscript", "program", "onnx"):
    try:
        export(open_bundle(Path(sys.argv[1])), format)
    except ResourceLimit as error:
        print(format, error.cause)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
def test_files_that_may_not_grow(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "b", make_card())
    command = [sys.executable, "-c", _FULL, str(bundle.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["torchscript", "program", "onnx"], done.stderr
    assert done.stderr == ""
    assert sorted(p.name for p in bundle.root.iterdir()) == [
        ".lock",
        "checkpoint.safetensors",
        "manifest.json",
    ]


def test_import_is_light() -> None:
    code = "import sys, vgg_deploy.export; print('torch' in sys.modules, 'onnx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


_INTERRUPTED = """
import sys
from pathlib import Path
from vgg_deploy.bundle import open_bundle
from vgg_deploy.export import export
try:
    export(open_bundle(Path(sys.argv[1])), "aoti")
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.skipif(aoti_missing() is not None, reason="no C++ compiler")
def test_ctrl_c_while_the_compiler_runs(tiny_bundle: Bundle) -> None:
    root = tiny_bundle.root
    command = [sys.executable, "-c", _INTERRUPTED, str(root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as process:
        deadline = time.monotonic() + 120
        while not list(root.glob(".partial-*/**/*.cpp")) and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # the terminal sends it to the whole group
        assert process.wait(60) == 130
    assert sorted(p.name for p in root.iterdir()) == [
        ".lock",
        "checkpoint.safetensors",
        "manifest.json",
    ]
