"""The C and C++ apps as programs, and as parts of a larger project."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.embed.conftest import LABELS, lacking
from vgg_deploy.cli import main
from vgg_deploy.embed import TargetName

LANGUAGES: tuple[TargetName, ...] = ("c", "openvino")
HEADER = b"P6 3 2 255\n"
PARENT = """
cmake_minimum_required(VERSION 3.20)
project(larger C CXX)
enable_testing()
add_executable(classify own.cpp)
add_test(NAME golden COMMAND classify)
add_subdirectory(one)
add_subdirectory(two)
target_link_libraries(classify PRIVATE classifier)
"""
OWN = {
    "c": '#include "classifier.h"\nint main() { return classifier_open("/nowhere") != nullptr; }\n',
    "openvino": '#include "classifier.hpp"\nint main() { try { Classifier c("/nowhere"); } '
    "catch (const std::exception&) { return 0; } return 1; }\n",
}


class App(NamedTuple):
    """Built in ``folder``/build; its name is one that quotes and make files can trip over."""

    target: TargetName
    folder: Path

    def says(self, *words: str | Path, cwd: Path) -> tuple[int, str]:
        """Exit code and all that the app's program says."""
        return run(str(self.folder / "build" / "classify"), *map(str, words), cwd=cwd)

    def labels(self, text: str, tmp_path: Path, picture: Path) -> tuple[int, str]:
        """What it says with another ``labels.txt``."""
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        shutil.copy(self.folder / "model.onnx", folder)
        (folder / "labels.txt").write_bytes(text.encode())
        return self.says(picture, folder, cwd=tmp_path)


def run(*command: str, cwd: Path) -> tuple[int, str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def configure(source: Path) -> tuple[int, str]:
    python = f"-DPython3_EXECUTABLE={sys.executable}"
    return run("cmake", "-S", ".", "-B", "build", python, cwd=source)


def embedded(target: TargetName, bundle: Path, folder: Path) -> Path:
    if reason := lacking(target):
        pytest.skip(reason)
    assert main(["embed", str(bundle), "--target", target, "-o", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module", params=LANGUAGES)
def app(
    request: pytest.FixtureRequest, made: Path, tmp_path_factory: pytest.TempPathFactory
) -> App:
    folder = tmp_path_factory.mktemp("cmake") / "an app für 100%"
    embedded(request.param, made, folder)
    assert configure(folder)[0] == 0
    code, said = run("cmake", "--build", "build", cwd=folder)
    assert code == 0, said
    return App(request.param, folder)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.ppm"
    path.write_bytes(HEADER + bytes(range(18)))
    return path


@pytest.mark.slow
def test_it_finds_its_model_from_anywhere(app: App, picture: Path, tmp_path: Path) -> None:
    code, said = app.says(picture, cwd=tmp_path)
    assert code == 0, said
    assert sum(label in said for label in LABELS) == 5
    assert app.says(picture, app.folder, cwd=tmp_path) == (code, said)
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("model.onnx", "labels.txt"):
        shutil.copy(app.folder / name, moved)
    others = "".join(f"other {n}\n" for n in range(len(LABELS)))
    (moved / "labels.txt").write_text(others, encoding="utf-8")
    code, said = app.says(picture, cwd=moved)
    assert (code, said.count("other")) == (0, 5), said
    code, said = app.says(picture, "nowhere", cwd=tmp_path)
    assert code == 1
    assert "nowhere/labels.txt cannot be read" in said


@pytest.mark.slow
def test_line_ends_of_labels(app: App, picture: Path, tmp_path: Path) -> None:
    expected = app.says(picture, cwd=tmp_path)
    text = "\n".join(LABELS)
    for other in (text, f"{text}\n".replace("\n", "\r\n"), text.replace("\n", "\r\n")):
        assert app.labels(other, tmp_path, picture) == expected
    code, said = app.labels(text.partition("\n")[2], tmp_path, picture)
    assert code == 1
    assert f"{len(LABELS) - 1} labels for {len(LABELS)} classes" in said


@pytest.mark.slow
def test_which_images_it_reads(app: App, picture: Path, tmp_path: Path) -> None:
    expected = app.says(picture, cwd=tmp_path)
    picture.write_bytes(b"P6\n# Created by GIMP\n3 #wide\n 2\n255\n" + bytes(range(18)))
    assert app.says(picture, cwd=tmp_path) == expected
    for header in (b"P6 3 2 65535\n", b"P3 3 2 255\n", b"P6 # 3 2 255\n", b"P6 3 70000 255\n", b""):
        picture.write_bytes(header + bytes(18))
        code, said = app.says(picture, cwd=tmp_path)
        assert code == 1, header
        assert "is not an 8-bit binary PGM or PPM" in said


@pytest.mark.slow
def test_a_missing_image_and_a_folder_are_told(app: App, tmp_path: Path) -> None:
    code, said = app.says("missing.ppm", cwd=tmp_path)
    assert code == 1
    assert said.startswith("missing.ppm: No such file")
    (tmp_path / "folder").mkdir()
    code, said = app.says("folder", cwd=tmp_path)
    assert code == 1
    assert said.startswith("folder: Is a directory")


@pytest.mark.slow
@pytest.mark.parametrize("target", LANGUAGES)
def test_two_apps_in_a_project_with_programs_and_tests_of_its_own(
    target: TargetName, made: Path, two_classes: Path, tmp_path: Path
) -> None:
    embedded(target, made, tmp_path / "one")
    embedded(target, two_classes, tmp_path / "two")
    (tmp_path / "CMakeLists.txt").write_text(PARENT, encoding="utf-8")
    (tmp_path / "own.cpp").write_text(OWN[target], encoding="utf-8")
    for code, said in (configure(tmp_path), run("cmake", "--build", "build", cwd=tmp_path)):
        assert code == 0, said
    code, said = run("ctest", "--test-dir", "build", "--no-tests=error", cwd=tmp_path)
    assert code == 0, said
    assert "100% tests passed, 0 tests failed out of 1" in said


@pytest.mark.parametrize("target", LANGUAGES)
def test_a_library_that_is_another_is_not_taken_for_its_own(
    target: TargetName, made: Path, tmp_path: Path
) -> None:
    embedded(target, made, tmp_path / "one")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(larger C CXX)\n"
        "add_library(classifier INTERFACE)\nadd_subdirectory(one)\n",
        encoding="utf-8",
    )
    code, said = configure(tmp_path)
    assert code != 0
    assert "another target is named classifier" in said
