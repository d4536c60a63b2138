"""What a check of a machine stores names no path of it, and is gone on with all the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.machine_paths import machine_paths
from tests.pipeline.test_machine import FOUND, OPTIONS
from tests.pipeline.test_machine_resume import Scripted
from vgg_deploy import jsonio
from vgg_deploy.errors import UsageError
from vgg_deploy.pipeline import machine
from vgg_deploy.pipeline.machine import Report, check
from vgg_deploy.pipeline.machine_places import Places
from vgg_deploy.pipeline.machine_steps import Done, Options, Step


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "me")


def options_in(root: Path) -> Options:
    """Bundles and both interpreters below a folder, by absolute paths."""
    python, other = (str(root / name / "bin" / "python") for name in (".venv", "trt86"))
    return replace(OPTIONS, work=str(root / "lent" / "work"), python=python, trt_python=other)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scripted:
    """Whose steps fail, and answer, with the paths that they were given."""
    given = options_in(tmp_path)
    paths = {"main": given.python, "other": given.trt_python}
    doctors = (replace(d, step=replace(d.step, python=paths[d.step.python])) for d in FOUND)
    made = Scripted(doctors=tuple(doctors))

    def run(step: Step, limit: float) -> Done:
        done = made(step, limit)
        if step.kind == "export":
            answer = {"files": [{"path": f"{step.words[1]}/model.onnx"}]}
            return replace(done, said=f"error: no room in {step.words[1]}", answer=answer)
        return done

    monkeypatch.setattr(machine, "run", run)
    monkeypatch.setattr(machine, "_lies_there", lambda step, options, done: True)
    return made


def test_a_check_with_absolute_paths_stores_none_and_goes_on(
    scripted: Scripted, tmp_path: Path
) -> None:
    path, given = tmp_path / "check.json", options_in(tmp_path)
    report = check(path, given)
    stored = path.read_text("utf-8")
    assert str(tmp_path) not in stored
    assert not machine_paths(stored)
    told = report.options
    names = (told.work, told.python, told.trt_python)
    assert names == ("work", ".venv/bin/python", "trt86/bin/python")
    export = next(done for done in report.done if done.step.kind == "export")
    assert export.said == "error: no room in work/tiny"
    assert export.answer == {"files": [{"path": "work/tiny/model.onnx"}]}
    assert {step.python for step in scripted.ran} == {given.python, given.trt_python}
    bundle = str(tmp_path / "lent" / "work" / "tiny")
    assert all(bundle in step.words for step in scripted.ran if step.network)
    scripted.forget()
    assert check(path, given).done == report.done
    again = {(step.kind, step.precision) for step in scripted.ran}
    assert again == {("doctor", ""), ("export", ""), ("build", "int8"), ("golden", "int8"),
                     ("bench", "int8")}  # fmt: skip


@pytest.mark.parametrize("name", ["work", "python", "trt_python"])
def test_other_paths_of_the_same_names_are_other_options(
    scripted: Scripted, tmp_path: Path, name: str
) -> None:
    given, other = options_in(tmp_path), options_in(tmp_path / "x" / tmp_path.name)
    mixed = replace(given, **{name: getattr(other, name)})
    assert Places(mixed).told == Places(given).told
    check(tmp_path / "check.json", given)
    with pytest.raises(UsageError, match="paths among them"):
        check(tmp_path / "check.json", mixed)


def test_an_older_file_with_paths_goes_on_and_loses_them(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, given = tmp_path / "check.json", options_in(tmp_path)
    with monkeypatch.context() as patched:  # as it was written then
        patched.setattr(Places, "told", given)
        patched.setattr(Places, "named", lambda self, done: done)
        check(path, given)
    old = json.loads(path.read_text("utf-8"))
    del old["places"]
    path.write_text(json.dumps(old))
    assert len(machine_paths(path.read_text())) > len(old["done"])
    assert jsonio.load(Report, path).places == ""
    with pytest.raises(UsageError, match="other options"):
        check(path, replace(given, work=str(tmp_path / "elsewhere" / "work")))
    scripted.forget()
    report = check(path, given)
    assert not [step for step in scripted.ran if step.kind in ("make", "verify", "limits")]
    assert len(report.done) == len(old["done"])
    assert not machine_paths(path.read_text())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("trt86/bin/python", "trt86/bin/python"),
        ("/opt/nvidia/trt86/bin/python", "trt86/bin/python"),
        ("/opt/trt/run", "trt/run"),
        ("/usr/bin/python3.10", "/usr/bin/python3.10"),
        ("HOME/envs/trt86/bin/python", "~/envs/trt86/bin/python"),
    ],
)
def test_names_of_an_interpreter(tmp_path: Path, path: str, name: str) -> None:
    path = path.replace("HOME", str(tmp_path / "me"))
    assert Places(replace(OPTIONS, trt_python=path)).told.trt_python == name


def test_two_interpreters_never_share_a_name() -> None:
    told = Places(replace(OPTIONS, python="/opt/a/env/bin/python",
                          trt_python="/opt/b/env/bin/python")).told  # fmt: skip
    assert told.python == "env/bin/python"
    assert told.trt_python == "env/bin/python (TensorRT's)"


TEXTS: dict[str, Callable[[Path], tuple[str, str]]] = {
    "below the work folder": lambda root: (
        f"could not write '{root}/lent/work/tiny/model.onnx': no space",
        "could not write 'work/tiny/model.onnx': no space",
    ),
    "beside the work folder": lambda root: (f"{root}/lent/work-2/x/y.bin", "x/y.bin"),
    "the work folder at the end": lambda root: (
        f"no room in {root}/lent/work.",
        "no room in work.",
    ),
    "the interpreter": lambda root: (f"{root}/trt86/bin/python: gone", "trt86/bin/python: gone"),
    "the home": lambda root: (f"{root}/me/.cache/nv x", "~/.cache/nv x"),
    "another": lambda _: ("File /tmp/a/b/lib/x.so, line 3", "File lib/x.so, line 3"),
    "an address": lambda root: (f"file://{root}/lent/work/a", "file://work/a"),
    "the system's": lambda _: ("no /usr/lib/libnvinfer.so.8", "no /usr/lib/libnvinfer.so.8"),
    "a layer": lambda _: ("/blocks/0/conv + /blocks/0/relu", "/blocks/0/conv + /blocks/0/relu"),
    "base64": lambda _: ("iVBO/tmp/Rw0K+/tmp/a//opt/b/c==", "iVBO/tmp/Rw0K+/tmp/a//opt/b/c=="),
    "a ratio": lambda _: ("12 images/s, 3/4 of /tmp", "12 images/s, 3/4 of /tmp"),
}


@pytest.mark.parametrize("which", TEXTS)
def test_texts(tmp_path: Path, which: str) -> None:
    text, told = TEXTS[which](tmp_path)
    places = Places(options_in(tmp_path))
    assert places.text(text) == told
    assert places.text(told) == told


def test_the_relative_work_folder_is_told_as_it_was_given(tmp_path: Path) -> None:
    places = Places(replace(OPTIONS, work="artifacts/check"))
    assert places.told.work == "artifacts/check"
    assert places.text(f"in {Path.cwd()}/artifacts/check/tiny") == "in artifacts/check/tiny"


def test_the_work_folder_may_be_the_home(scripted: Scripted, tmp_path: Path) -> None:
    """Steps that are stored have the words that are planned: else nothing of them is found."""
    path, given = tmp_path / "check.json", replace(options_in(tmp_path), work=str(tmp_path / "me"))
    assert Places(given).text(f"no room in {tmp_path}/me/tiny") == "no room in me/tiny"
    report = check(path, given)
    assert str(tmp_path) not in path.read_text("utf-8")
    make = next(done.step for done in report.done if done.step.kind == "make")
    assert make.words[:2] == ("tiny", "me/tiny")
    scripted.forget()
    assert check(path, given).done == report.done
    assert not [step for step in scripted.ran if step.kind in ("make", "limits")]


@pytest.mark.parametrize("home", [Path("/"), None])
def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch, home: Path | None) -> None:
    def none() -> Path:
        if home is None:
            raise RuntimeError("could not determine home directory")
        return home

    monkeypatch.setattr(Path, "home", none)
    places = Places(replace(OPTIONS, work="/opt/lent/work"))
    assert places.text("/opt/lent/work/tiny and /blocks/0") == "work/tiny and /blocks/0"
