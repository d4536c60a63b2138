"""Each app installed, built and run as its README says: its own test against the golden vectors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from vgg_deploy.artifact import Precision
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.embed import TABLE, TARGETS, TargetName, check
from vgg_deploy.embed.targets import Target
from vgg_deploy.embed.write import PRECISIONS
from vgg_deploy.errors import BackendNotAvailable, ResourceLimit
from vgg_deploy.golden import INDEX

# The versions that the Python apps pin have no wheels for 3.10.
PINNED_PYTHON = (3, 11)


def skip_reason(target: TargetName) -> str | None:
    missing = [problem for tool in TABLE[target].tools if (problem := tool.problem())]
    if missing:
        return f"needs {', '.join(missing)}"
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
    *install, test = target.test()
    kept = packages / name / folder  # Node.js finds packages in a folder of that name only
    kept.parent.mkdir(exist_ok=True)
    steps = () if kept.exists() else (*install, ("mv", folder, str(kept)))
    return replace(target, test=lambda: (*steps, ("ln", "-s", str(kept), folder), test))


Embeds = Callable[..., None]


@pytest.fixture
def embeds(
    packages: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Embeds:
    """Writes an app that passes its own test."""

    def embed(target: TargetName, bundle: Path, *words: str) -> None:
        if reason := skip_reason(target):
            pytest.skip(reason)
        monkeypatch.delenv("PYTHONPATH", raising=False)  # the app must do without this package
        monkeypatch.setenv("npm_config_prefer_offline", "true")
        monkeypatch.setitem(cast("dict[str, Target]", TABLE), target, sharing(target, packages))
        out = tmp_path / "app"
        command = ["embed", str(bundle), "--target", target, "-o", str(out), *words, "--test"]
        code, said = main(command), capsys.readouterr().err
        if code == BackendNotAvailable.exit_code and target in PACKAGES:
            pytest.skip(said)
        assert code == 0, said
        left = {path.name for path in out.iterdir()}
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
def test_an_app_that_computes_something_else_is_not_written(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if reason := skip_reason("c"):
        pytest.skip(reason)
    index = json.loads((bundle.golden_folder / INDEX).read_text(encoding="utf-8"))
    index["images"][1]["logits"][0] += 0.1

    def other_answers(folder: Path) -> None:
        shutil.copytree(bundle.golden_folder, folder, dirs_exist_ok=True)
        (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")

    bundle.add_golden({"made_by": "tests"}, other_answers)
    out = tmp_path / "app"
    assert main(["embed", str(bundle.root), "--target", "c", "-o", str(out), "--test"]) == 7
    assert "ctest" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize("target", ["c", "openvino"])
def test_as_a_part_of_a_larger_program(target: TargetName, made: Path, tmp_path: Path) -> None:
    """As the README says; the parent's tests run the app's, and its program reads any PPM."""
    if reason := skip_reason(target):
        pytest.skip(reason)
    assert main(["embed", str(made), "--target", target, "-o", str(tmp_path / "app")]) == 0
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(larger C CXX)\nenable_testing()\n"
        "add_subdirectory(app)\n",
        encoding="utf-8",
    )
    build = tmp_path / "build"
    for command in (
        f"cmake -S {tmp_path} -B {build} -DPython3_EXECUTABLE={sys.executable}",
        f"cmake --build {build}",
        f"ctest --test-dir {build} --output-on-failure --no-tests=error",
    ):
        done = subprocess.run(command.split(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    said = [
        classified(build / "app" / "classify", tmp_path / "app", header + bytes(range(18)))
        for header in (b"P6 3 2 255\n", b"P6\n# Created by GIMP\n3 #wide\n 2\n255\n")
    ]
    assert said[0][0] == 0
    assert said[0] == said[1]
    for header in (b"P6 3 2 65535\n", b"P3 3 2 255\n", b"P6 # 3 2 255\n", b"P6 3 70000 255\n", b""):
        code, words = classified(build / "app" / "classify", tmp_path / "app", header + bytes(18))
        assert code == 1, header
        assert "is not an 8-bit binary PGM or PPM" in words


def classified(program: Path, folder: Path, content: bytes) -> tuple[int, str]:
    """Exit code and all that the app's program says of an image file."""
    picture = folder.parent / "picture.ppm"
    picture.write_bytes(content)
    done = subprocess.run(
        [program, picture], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_files_that_a_test_leaves_are_removed(tmp_path: Path) -> None:
    (tmp_path / "main.py").touch()
    script = "mkdir build && touch build/x core && ln -s build linked"
    check.check_app(replace(TABLE["python"], test=lambda: (("sh", "-c", script),)), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["main.py"]


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
    assert "cannot be prepared here: .venv/bin/python -m pip install" in said
    assert not out.exists()


def test_a_step_that_does_not_end_is_stopped_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "sleep 60 & echo $! > child; wait"
    target = replace(TABLE["python"], test=lambda: (("sh", "-c", script),))
    note = tmp_path / "child"
    for seconds in (0.5, 5, 25):  # until the shell has started
        monkeypatch.setattr(check, "_SECONDS", seconds)
        with pytest.raises(ResourceLimit, match="did not end"):
            check.check_app(target, tmp_path)
        if note.exists() and note.read_text():
            break
    child = int(note.read_text())
    deadline = time.monotonic() + 20
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


def alive(process: int) -> bool:
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().split()[2] != "Z"


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
