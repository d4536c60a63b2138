"""Each app installed, built and run as its README says: its own test against the golden vectors."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from tests.embed.conftest import lacking, program
from vgg_deploy.artifact import Precision
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.embed import TABLE, TARGETS, TargetName
from vgg_deploy.embed.targets import Target
from vgg_deploy.embed.write import PRECISIONS
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.golden import INDEX

# The versions that the Python apps pin have no wheels for 3.10.
PINNED_PYTHON = (3, 11)


def skip_reason(target: TargetName) -> str | None:
    if missing := lacking(target):
        return missing
    if target in ("python", "triton") and sys.version_info < PINNED_PYTHON:
        return "needs Python 3.11"
    return None


# Where packages go; what a compiler builds is the app's own, and built each time.
PACKAGES = {"python": ".venv", "triton": ".venv", "node": "node_modules", "browser": "node_modules"}


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of each target: they are the same whatever the model is."""
    return tmp_path_factory.mktemp("packages")


def sharing(name: TargetName, packages: Path) -> Target:
    """The target, whose packages its first test installs and the later ones find."""
    target, folder = TABLE[name], PACKAGES.get(name)
    if folder is None:
        return target
    *install, opening, test = target.test()
    kept = packages / name / folder  # Node.js finds packages in a folder of that name only
    kept.parent.mkdir(exist_ok=True)
    steps = () if kept.exists() else (*install, ("mv", folder, str(kept)))
    link = ("ln", "-s", str(kept), folder)
    return replace(target, test=lambda: (*steps, link, opening, test))


Tests = Callable[..., tuple[int, str]]
Embeds = Callable[..., None]


@pytest.fixture
def tests(
    packages: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Tests:
    """Writes an app to ``app`` and tests it: the exit code, and what was said in one line."""

    def test(target: TargetName, bundle: Path, *words: str) -> tuple[int, str]:
        if reason := skip_reason(target):
            pytest.skip(reason)
        monkeypatch.setenv("npm_config_prefer_offline", "true")
        monkeypatch.setitem(cast("dict[str, Target]", TABLE), target, sharing(target, packages))
        out = tmp_path / "app"
        command = ["embed", str(bundle), "--target", target, "-o", str(out), *words, "--test"]
        code, said = main(command), " ".join(capsys.readouterr().err.split())
        if code == BackendNotAvailable.exit_code and re.search(
            "(pip install .*|npm ci) failed", said
        ):
            pytest.skip(said)
        return code, said

    return test


@pytest.fixture
def embeds(tests: Tests, tmp_path: Path) -> Embeds:
    """Writes an app that passes its own test."""

    def embed(target: TargetName, bundle: Path, *words: str) -> None:
        code, said = tests(target, bundle, *words)
        assert code == 0, said
        left = {path.name for path in (tmp_path / "app").iterdir()}
        assert not left & {"node_modules", "build", ".venv"}  # it is handed over as it was written

    return embed


@pytest.mark.slow
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("target", TARGETS)
def test_its_own_test_passes(
    target: TargetName, precision: Precision, made: Path, embeds: Embeds
) -> None:
    embeds(target, made, "--precision", precision)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_it_passes_with_two_classes(target: TargetName, two_classes: Path, embeds: Embeds) -> None:
    embeds(target, two_classes)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["python", "node", "c"])
def test_an_app_that_computes_something_else_is_not_written(
    target: TargetName, bundle: Bundle, tmp_path: Path, tests: Tests
) -> None:
    index = json.loads((bundle.golden_folder / INDEX).read_text(encoding="utf-8"))
    index["images"][1]["logits"][0] += 0.1

    def other_answers(folder: Path) -> None:
        shutil.copytree(bundle.golden_folder, folder, dirs_exist_ok=True)
        (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")

    bundle.add_golden({"made_by": "tests"}, other_answers)
    code, said = tests(target, bundle.root)
    assert code == 7
    assert index["images"][1]["name"] in said
    assert not (tmp_path / "app").exists()


@pytest.mark.slow
def test_a_browser_that_does_not_start_is_no_verdict(
    bundle: Bundle, tmp_path: Path, tests: Tests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in, which can tell its version and no more."""
    lacks = '[ "$1" = --version ] || { echo libnss3.so: cannot open >&2; exit 127; }'
    broken = program(tmp_path / "tools", "chromium", lacks)
    monkeypatch.setenv("CHROMIUM", str(broken))
    code, said = tests("browser", bundle.root)
    assert code == 10
    assert "cannot be prepared here: node " in said
    assert "libnss3.so: cannot open" in said
    assert not (tmp_path / "app").exists()


def test_packages_that_cannot_be_had_are_no_verdict(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if reason := skip_reason("python"):
        pytest.skip(reason)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    out = tmp_path / "app"
    assert main(["embed", str(made), "--target", "python", "-o", str(out), "--test"]) == 10
    said = capsys.readouterr().err
    assert "cannot be prepared here: .venv/bin/python -E -m pip install" in said
    assert not out.exists()


def test_an_older_openvino_is_refused_before_anything_is_built(made: Path, tmp_path: Path) -> None:
    """A stand-in for OpenVINO's own CMake package: old releases are not at hand."""
    if reason := skip_reason("openvino"):
        pytest.skip(reason)
    out, old = tmp_path / "app", tmp_path / "old"
    assert main(["embed", str(made), "--target", "openvino", "-o", str(out)]) == 0
    old.mkdir()
    (old / "OpenVINOConfig.cmake").write_text(
        "set(OpenVINO_FOUND TRUE)\nset(OpenVINO_VERSION 2023.3.0)\n", encoding="utf-8"
    )
    command = ["cmake", "-S", str(out), "-B", str(tmp_path / "build"), f"-DOpenVINO_DIR={old}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "OpenVINO 2023.3.0 is too old for this model: use 2024.6 or newer" in done.stderr


def test_an_older_onnx_runtime_is_no_verdict(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stand-in for the system's library, which knows no interface as new as the app's."""
    if reason := skip_reason("c"):
        pytest.skip(reason)
    source, old = tmp_path / "old.c", tmp_path / "old"
    source.write_text(
        "typedef struct { const void *(*api)(unsigned); const char *(*version)(void); } Base;\n"
        "static const void *api(unsigned version) { (void)version; return 0; }\n"
        'static const char *version(void) { return "1.14.1"; }\n'
        "static const Base base = {api, version};\n"
        "const Base *OrtGetApiBase(void) { return &base; }\n",
        encoding="utf-8",
    )
    old.mkdir()
    library = old / "libonnxruntime.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setenv("CMAKE_LIBRARY_PATH", str(old))
    out = tmp_path / "app"
    assert main(["embed", str(made), "--target", "c", "-o", str(out), "--test"]) == 10
    said = " ".join(capsys.readouterr().err.split())
    assert "ONNX Runtime 1.14.1 is too old for this model: use 1.15 or newer" in said
    assert not out.exists()
