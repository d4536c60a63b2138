"""What an interrupted or failed export leaves behind: the state before it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from tests.conftest import make_bundle, make_card
from vgg_deploy.artifact import Format
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import (
    BackendNotAvailable,
    ResourceLimit,
)
from vgg_deploy.export import EXPORT_FORMATS, aoti_missing, export, to_onnx
from vgg_deploy.manifest import Draft
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


def half_written(error: BaseException) -> Callable[..., Any]:
    """A writer that gets as far as some bytes of its file."""

    def write(*args: Any, **_options: Any) -> None:
        for argument in args:
            if isinstance(argument, str | Path):
                Path(argument).write_bytes(b"half")
        raise error

    return write


FAILURES: list[tuple[Format, BaseException, type[BaseException]]] = [
    *((format, KeyboardInterrupt(), KeyboardInterrupt) for format in EXPORT_FORMATS),
    # what they are translated to is decided in one place for all formats
    ("torchscript", OSError(errno.ENOSPC, "No space left on device"), ResourceLimit),
    ("torchscript", RuntimeError("PytorchStreamWriter failed writing file data/0"), ResourceLimit),
    ("torchscript", RuntimeError("DefaultCPUAllocator: can't allocate memory"), ResourceLimit),
    ("torchscript", MemoryError(), ResourceLimit),
    ("torchscript", ModuleNotFoundError("No module named 'x'", name="x"), BackendNotAvailable),
    ("torchscript", RuntimeError("another"), RuntimeError),
]


@pytest.mark.parametrize(
    ("format", "error", "seen"), FAILURES, ids=lambda value: getattr(value, "__name__", None)
)
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
        "onnx": (to_onnx, "check_file"),
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
        ".gitattributes",
        ".lock",
        "checkpoint.safetensors",
        "manifest.json",
    ]


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
        ".gitattributes",
        ".lock",
        "checkpoint.safetensors",
        "manifest.json",
    ]
