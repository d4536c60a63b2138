"""A library that is not there, and one that is there and does not load, are told apart.

The second is planted: a package of its name that breaks when it is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import BackendNotAvailable, ResourceLimit
from vgg_deploy.export.guard import imports

LOADER = "libcudnn.so.9: cannot open shared object file"
SAID = f"cannot be imported: {LOADER}"
BROKEN = [
    f'raise ImportError("{LOADER}\\nmore")',
    f'raise OSError("{LOADER}")',
    f'raise RuntimeError("{LOADER}\\nmore")',
    f'raise TypeError("{LOADER}")',
]
ABSENT = "import sys; sys.modules['torch'] = None; "
TOLD = """
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.libraries import import_torch, import_torchvision
try:
    {}
except BackendNotAvailable as error:
    print(error.cause, error.remedy, sep="; ")
"""
INSTALL = 'pip install "vgg-deploy[torch]"'


def answer(code: str, *words: str, planted: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(planted), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-c", code, *words], env=os.environ | {"PYTHONPATH": paths},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN, ids=lambda code: code.split("(")[0].split()[1])
@pytest.mark.parametrize("name", ["torch", "torchvision"])
def test_a_broken_library_is_told_as_broken(name: str, broken: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text(broken)
    done = answer(TOLD.format(f"import_{name}()"), planted=tmp_path)
    assert done.stdout == f"this needs {name}, which {SAID}; {INSTALL}\n", done.stderr


MAP = "libtorch_cpu.so: failed to map segment from shared object"
NO_MEMORY = [f'raise ImportError("{MAP}")', "raise MemoryError", 'raise OSError("bad_alloc")']


@pytest.mark.parametrize("broken", NO_MEMORY)
@pytest.mark.parametrize("words", [("export", "-f", "onnx"), ("verify",), ("doctor",)])
def test_a_limit_on_memory_is_no_broken_library(
    broken: str, words: tuple[str, ...], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "planted"
    folder.mkdir()
    (folder / "torch.py").write_text(broken)
    code = "import sys; from vgg_deploy.cli import main; sys.exit(main())"
    name, *more = words
    done = answer(
        code, name, *([str(tiny_bundle.root)] * (name != "doctor")), *more, planted=folder
    )
    told = done.stdout if name == "doctor" else done.stderr
    assert done.returncode == (0 if name == "doctor" else ResourceLimit.exit_code), done.stderr
    assert "torch could not be loaded, memory ran out: " in " ".join(told.split())
    assert "ulimit -v" in " ".join(told.split())
    assert "pip install" not in done.stderr


def test_an_absent_library_is_told_as_absent(tmp_path: Path) -> None:
    done = answer(ABSENT + TOLD.format("import_torch()"), planted=tmp_path)
    assert done.stdout == f"this needs torch, which is not installed; {INSTALL}\n", done.stderr


@pytest.mark.parametrize("broken", BROKEN[:2], ids=["ImportError", "OSError"])
def test_an_export_with_a_broken_torch_is_no_internal_error(
    broken: str, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    folder = tmp_path / "planted"
    folder.mkdir()
    (folder / "torch.py").write_text(broken)
    code = "import sys; from vgg_deploy.cli import main; sys.exit(main())"
    words = ["export", str(tiny_bundle.root), "--format", "torchscript"]
    done = answer(code, *words, planted=folder)
    assert done.returncode == BackendNotAvailable.exit_code, done.stderr
    assert f"export to torchscript needs torch, which {SAID}" in done.stderr


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (ImportError(f"{LOADER}\nmore", name="onnx"), f"x needs onnx, which {SAID}"),
        (ImportError(LOADER), f"x needs a library, which {SAID}"),
        (ModuleNotFoundError("no", name="onnx"), "x needs onnx, which is not installed"),
    ],
)
def test_what_breaks_later_in_an_export(error: ImportError, cause: str) -> None:
    with pytest.raises(BackendNotAvailable) as caught, imports("x"):
        raise error
    assert caught.value.cause == cause
