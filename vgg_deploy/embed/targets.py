"""The targets of ``embed``: one row each, and what its app's own test needs on a machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from vgg_deploy.errors import UsageError, unknown_choice

TargetName = Literal["python", "node", "browser", "c", "openvino", "triton"]
TARGETS: tuple[TargetName, ...] = get_args(TargetName)
RECORD = ".vgg-deploy.json"  # in each app: what it is
_OTHER_NAMES: Mapping[str, TargetName] = {
    **dict.fromkeys(("cpp", "c++", "cxx"), "openvino"),
    **dict.fromkeys(("js", "javascript", "nodejs", "typescript"), "node"),
    **dict.fromkeys(("web", "html", "wasm"), "browser"),
}

Command = tuple[str, ...]
Version = tuple[int, ...]  # major, minor; compared as far as both tell
_SECONDS = 20  # for a program to tell its version


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A program that a test needs: any of ``names``, in version ``oldest`` or newer."""

    names: tuple[str, ...]
    remedy: str
    oldest: Version | None = None
    variable: str = ""  # of the environment: where set, it names the program instead

    def path(self) -> str | None:
        """Where the program is on this machine."""
        return next((path for name in self._wanted() if (path := shutil.which(name))), None)

    def problem(self) -> str:
        """Why the program cannot be used here; empty if it can."""
        names, path = self._wanted(), self.path()
        if path is None:
            return f"{names[0]}, which is not on this machine"
        said, reason = _told_version(path)
        if reason:
            return f"{names[0]}; {path} --version {reason}"
        found = _version(said)
        if self.oldest is None or found is None or found >= self.oldest:
            return ""
        return f"{names[0]} {_dotted(self.oldest)} or newer; {path} is version {_dotted(found)}"

    def _wanted(self) -> tuple[str, ...]:
        named = os.environ.get(self.variable) if self.variable else None
        return (named,) if named else self.names


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _told_version(program: str) -> tuple[str, str]:
    """What ``--version`` says, and why the program does not run, empty if it does."""
    try:
        done = subprocess.run(
            (program, "--version"), capture_output=True, text=True, errors="replace", check=False,
            timeout=_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        return "", f"does not start: {error.strerror}"
    except subprocess.TimeoutExpired:
        return "", f"does not end in {_SECONDS} s"
    if done.returncode == 0:
        return done.stdout, ""
    lines = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()
    return "", f"ends with exit code {done.returncode} and says: {lines[0]}"


def _version(said: str) -> Version | None:
    """The first major and minor number in a text; None where there is none."""
    found = re.search(r"(\d+)(?:\.(\d+))?", said)
    return tuple(int(number or 0) for number in found.groups()) if found else None


@dataclass(frozen=True, kw_only=True)
class Target:
    """How one kind of app is laid out and how it tests itself.

    ``parts`` are folders below ``templates/`` and where each goes in the app.
    ``bound`` are files beside model, labels, golden vectors, README and record that are one
    model's own.
    ``ignores_antialias`` says that its runtime gets ONNX's own ``Resize`` wrong.
    """

    title: str
    parts: tuple[tuple[str, str], ...]
    model: str = "model.onnx"
    labels: str = "labels.json"  # .txt: one label per line
    bound: tuple[str, ...] = ()
    ignores_antialias: bool = False
    tools: tuple[Tool, ...] = ()
    test: Callable[[], tuple[Command, ...]] = tuple


_NODE = Tool(names=("node",), remedy="install Node.js 20 or newer", oldest=(20,))
_NPM = Tool(names=("npm",), remedy="install npm, which comes with Node.js")
_CMAKE = Tool(
    names=("cmake",),
    remedy="install CMake 3.20 or newer: apt-get install cmake",
    oldest=(3, 20),  # an older ctest takes --test-dir for nothing, finds no test and succeeds
)
_CC = Tool(names=("cc", "gcc", "clang"), remedy="install a C compiler: apt-get install gcc")
_CXX = Tool(names=("c++", "g++", "clang++"), remedy="install a C++ compiler: apt-get install g++")
_CHROMIUM = Tool(
    names=("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    remedy="install Chromium or Chrome (apt-get install chromium), or set CHROMIUM to its program",
    variable="CHROMIUM",
)
# A runtime that does not start is no verdict on the app: each opens it once before the test.
_OPEN_NODE = "import { Classifier } from './classifier.js'; await Classifier.load()"
_OPEN_BROWSER = "import { launch } from './chromium.js'; await (await launch()).close()"
_OPEN_PYTHON = "import classifier; classifier.Classifier()"
_OPEN_TRITON = "import client, local_server; local_server.Model()"


def _npm(opening: str) -> Callable[[], tuple[Command, ...]]:
    steps: tuple[Command, ...] = (
        ("npm", "ci"),
        ("node", "--input-type=module", "-e", opening),
        ("npm", "test"),
    )
    return lambda: steps


def _python(opening: str) -> Callable[[], tuple[Command, ...]]:
    """An environment of the app's own, so that exactly its pinned versions are tested."""
    own = (".venv/bin/python", "-E")  # PYTHONPATH may hold other versions
    steps: tuple[Command, ...] = (
        (sys.executable, "-m", "venv", ".venv"),
        (*own, "-m", "pip", "install", "--quiet", "-r", "requirements.txt"),
        (*own, "-c", opening),
        (*own, "-m", "unittest", "--verbose"),
    )
    return lambda: steps


def _cmake() -> tuple[Command, ...]:
    return (
        ("cmake", "-S", ".", "-B", "build", f"-DPython3_EXECUTABLE={sys.executable}"),
        ("cmake", "--build", "build"),
        ("build/test_classifier", ".", "open"),
        ("ctest", "--test-dir", "build", "--output-on-failure", "--no-tests=error"),
    )


TABLE: Mapping[TargetName, Target] = {
    "python": Target(
        title="Python (numpy and ONNX Runtime)",
        parts=(("_py", ""), ("python", "")),
        bound=("test_classifier.py",),
        test=_python(_OPEN_PYTHON),
    ),
    "node": Target(
        title="Node.js (onnxruntime-node)",
        parts=(("_js", ""), ("node", "")),
        bound=("test/classifier.test.js",),
        tools=(_NODE, _NPM),
        test=_npm(_OPEN_NODE),
    ),
    "browser": Target(
        title="a web page (onnxruntime-web)",
        parts=(("_js", "public"), ("browser", "")),
        model="public/model.onnx",
        labels="public/labels.json",
        bound=("public/index.html", "test/page.test.js"),
        tools=(_NODE, _NPM, _CHROMIUM),
        test=_npm(_OPEN_BROWSER),
    ),
    "c": Target(
        title="C (ONNX Runtime's C API)",
        parts=(("_cpp", ""), ("c", "")),
        labels="labels.txt",
        bound=("test/golden_vectors.h",),
        tools=(_CMAKE, _CC),
        test=_cmake,
    ),
    "openvino": Target(
        title="C++ (OpenVINO)",
        parts=(("_cpp", ""), ("openvino", "")),
        labels="labels.txt",
        bound=("test/golden_vectors.h",),
        ignores_antialias=True,
        tools=(_CMAKE, _CXX),
        test=_cmake,
    ),
    "triton": Target(
        title="Triton Inference Server",
        parts=(("_py", ""), ("triton", "")),
        model="models/classifier/1/model.onnx",
        labels="models/classifier/labels.txt",
        bound=("models/classifier/config.pbtxt", "client.py", "test_classifier.py"),
        test=_python(_OPEN_TRITON),
    ),
}


def unknown_target(given: str) -> UsageError:
    """Error for a name that is no target's, with the target that is meant."""
    meant = _OTHER_NAMES.get(given.lower())
    if meant is None:
        return unknown_choice("target", given, TARGETS)
    remedy = f"{TABLE[meant].title} is {meant!r}; known: {', '.join(TARGETS)}"
    return UsageError(f"unknown target {given!r}", remedy)
