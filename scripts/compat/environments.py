"""Environments of other runtimes, made once in a cache folder: venvs, npm packages, a C program."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RUNNERS = Path(__file__).parent / "runners"
# Vendored for the C template, whose licence file lies beside it.
HEADERS = Path(__file__).parents[2] / "vgg_deploy/embed/templates/c/vendor/onnxruntime"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class NotHere(Exception):
    """A runtime that this machine cannot have; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One row of the table. ``packages`` empty: the interpreter that runs the script."""

    name: str
    kind: str  # of runner: python_runner's name, or node, web, chromium, capi
    packages: tuple[str, ...] = ()
    light: bool = False  # needs nothing that the development environment lacks
    builds_only: bool = False


RUNTIMES: tuple[Runtime, ...] = (
    Runtime(name="ONNX Runtime, Python", kind="ort", light=True),
    Runtime(
        name="ONNX Runtime 1.21, Python", kind="ort", packages=("onnxruntime==1.21.1", "numpy<2.3")
    ),
    Runtime(
        name="ONNX Runtime 1.18, Python", kind="ort", packages=("onnxruntime==1.18.1", "numpy<2")
    ),
    Runtime(
        name="ONNX Runtime 1.15, Python", kind="ort", packages=("onnxruntime==1.15.1", "numpy<2")
    ),
    Runtime(name="ONNX Runtime, C API", kind="capi"),
    Runtime(name="onnxruntime-node", kind="node", packages=("onnxruntime-node",)),
    Runtime(name="onnxruntime-web in Node", kind="web", packages=("onnxruntime-web",)),
    Runtime(name="onnxruntime-web in Chromium", kind="chromium", packages=("onnxruntime-web",)),
    Runtime(name="OpenVINO", kind="openvino", light=True),
    Runtime(
        name="OpenCV", kind="opencv", packages=("opencv-python-headless==5.0.0.93", "numpy<2.5")
    ),
    Runtime(name="tract", kind="tract", packages=("tract==0.23.9", "numpy<2.5")),
    Runtime(name="ONNX's reference evaluator", kind="onnx", light=True),
    Runtime(
        name="TensorRT-RTX",
        kind="rtx",
        packages=(
            "tensorrt_rtx_cu13_libs==1.7.1.116",
            "tensorrt_rtx_cu13_bindings==1.7.1.116",
            "nvidia-cuda-runtime",
            "numpy<2.5",
        ),
        builds_only=True,
    ),
)


def command_for(runtime: Runtime, cache: Path) -> tuple[list[str], Path]:
    """The start of the command line and the folder it runs in; makes what is missing."""
    if runtime.kind in ("node", "web"):
        return [_need("node"), str(RUNNERS / "node_runner.mjs"), *runtime.packages], _npm(cache)
    python = sys.executable
    if runtime.packages:
        python = str(_venv(cache / runtime.name.replace(" ", "-").replace(",", ""), runtime))
    return [python, str(RUNNERS / "python_runner.py"), runtime.kind], cache


def web_folder(cache: Path) -> Path:
    """Where onnxruntime-web's own files lie, to be served."""
    return _npm(cache) / "node_modules" / "onnxruntime-web" / "dist"


def chromium() -> str:
    """Path of an installed Chromium or Chrome."""
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        raise NotHere("no Chromium; apt install chromium")
    return found


def capi_program(cache: Path) -> Path:
    """The C program, compiled against the library inside the installed onnxruntime wheel."""
    import onnxruntime

    folder = Path(onnxruntime.__file__).parent / "capi"
    library = next(iter(sorted(folder.glob("libonnxruntime.so.*"))), None)
    if library is None:
        raise NotHere("the onnxruntime wheel holds no libonnxruntime.so")
    headers = Path(os.environ.get("ORT_HEADERS", HEADERS))
    if not (headers / "onnxruntime_c_api.h").is_file():
        raise NotHere(f"no onnxruntime_c_api.h in {headers}")
    program = cache / "capi_runner"
    source = RUNNERS / "capi_runner.c"
    link = cache / "libonnxruntime.so.1"  # the name that the library gives itself
    link.unlink(missing_ok=True)
    link.symlink_to(library)
    rpath = f"-Wl,-rpath,{cache}"
    _run([_need("cc"), "-O1", "-I", str(headers), str(source), str(library), rpath, "-o",
          str(program)], cache)  # fmt: skip
    return program


def _venv(folder: Path, runtime: Runtime) -> Path:
    python = folder / "bin" / "python"
    if not (folder / "done").exists():
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], folder.parent)
        _run([str(python), "-m", "pip", "install", "--quiet", *runtime.packages], folder.parent)
        (folder / "done").touch()
    return python


def _npm(cache: Path) -> Path:
    folder = cache / "node"
    packages = sorted({p for r in RUNTIMES if r.kind in ("node", "web") for p in r.packages})
    if not (folder / "done").exists():
        folder.mkdir(exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        # its postinstall would download CUDA libraries
        environment = {**os.environ, "ONNXRUNTIME_NODE_INSTALL": "skip"}
        _run([_need("npm"), "install", "--silent", *packages], folder, environment)
        (folder / "done").touch()
    return folder


def _need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise NotHere(f"{program} is not installed")
    return found


def _run(command: Sequence[str], folder: Path, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, cwd=folder if folder.exists() else None, env=environment, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = next((line for line in lines if "error" in line), lines[-1] if lines else "failed")
        raise NotHere(f"{Path(command[0]).name}: {said}")
