"""The steps of an app's test: what they mean when they fail, and what they leave."""

from __future__ import annotations

import os
import sysconfig
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.embed.conftest import program
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.embed import TABLE, EmbedOptions, TargetName, check, embed_bundle
from vgg_deploy.embed.targets import Target
from vgg_deploy.errors import BackendNotAvailable, NotEquivalent, ResourceLimit


def shell(*scripts: str) -> Target:
    """A target with these steps."""
    return replace(TABLE["python"], test=lambda: tuple(("sh", "-c", text) for text in scripts))


def test_files_that_a_test_leaves_are_removed(tmp_path: Path) -> None:
    (tmp_path / "main.py").touch()
    check.check_app(shell("mkdir build && touch build/x core && ln -s build linked"), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["main.py"]


@pytest.mark.skipif(bool(TABLE["node"].tools[0].problem()), reason="needs Node.js 20")
def test_a_runtime_of_node_that_does_not_start_is_no_verdict(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for npm, which installs nothing."""
    tests = "[ $1 = test ] || exit 0; exec node --test"
    program(tmp_path / "tools", "npm", tests)
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{os.environ['PATH']}")
    with pytest.raises(BackendNotAvailable, match="Cannot find package 'onnxruntime-node'"):
        embed_bundle(bundle, tmp_path / "app", EmbedOptions(target="node", test=True))


@pytest.mark.parametrize("name", ["python", "triton"])
def test_packages_are_the_apps_own(
    name: TargetName, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is installed: neither the packages that PYTHONPATH names nor a verdict on the app."""
    app = tmp_path / "app"
    embed_bundle(bundle, app, EmbedOptions(target=name))
    (*venv, own), _install, *steps = TABLE[name].test()
    without = replace(TABLE[name], test=lambda: ((*venv, "--without-pip", own), *steps))
    monkeypatch.setenv("PYTHONPATH", sysconfig.get_path("purelib"))
    with pytest.raises(BackendNotAvailable, match="ModuleNotFoundError: No module named 'numpy'"):
        check.check_app(without, app)


def test_a_step_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh", encoding="utf-8")
    target = replace(TABLE["python"], test=lambda: (("./tool", "x"),))
    with pytest.raises(BackendNotAvailable, match=r"\./tool x does not start: Permission denied"):
        check.check_app(target, tmp_path)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (
            "ok 1\n✖ second (3ms)\n  TypeError: no\n\nms 4\n✖ failing tests:\n",
            "✖ second (3ms) | TypeError: no",
        ),
        ("a ... ok\nFAIL: b (c)\nx.KeyError: 3\nRan 2\n", "FAIL: b (c) | x.KeyError: 3"),
        ("[1/2] cc\nmain.c:3:1: error: no ;\nninja: stopped\n", "main.c:3:1: error: no ;"),
        ("one\ntwo\n\nthree\nfour\n", "two | three | four"),
    ],
)
def test_the_cause_is_what_failed_first(said: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "said").write_text(said, encoding="utf-8")
    with pytest.raises(NotEquivalent) as failed:
        check.check_app(shell("cat said; exit 1"), tmp_path)
    assert failed.value.cause.endswith(f": {cause}")


def test_a_folder_whose_name_is_no_text(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("node", "npm"):
        program(tmp_path / "tools", name, "echo 22; pwd -P")
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{os.environ['PATH']}")
    out = os.fsdecode(bytes(tmp_path / "caf") + b"\xe9")
    assert main(["embed", str(bundle.root), "--target", "node", "-o", out, "--test"]) == 0
    assert (Path(out) / "main.js").exists()


@pytest.mark.parametrize("end", ["; wait", ""], ids=["hangs", "has ended"])
def test_a_step_that_does_not_end_is_stopped_with_all_it_started(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "child"
    for seconds in (0.5, 5, 25):  # until the shell has started
        monkeypatch.setattr(check, "_SECONDS", seconds)
        with pytest.raises(ResourceLimit, match="did not end"):
            check.check_app(shell(f"sleep 60 & echo $! > child{end}"), tmp_path)
        if note.exists() and note.read_text():
            break
    assert ends(int(note.read_text()))


def test_what_a_step_leaves_in_the_background_ends_with_it(tmp_path: Path) -> None:
    note = tmp_path / "child"
    note.touch()
    check.check_app(shell("sleep 60 > /dev/null 2>&1 & echo $! > child"), tmp_path)
    assert ends(int(note.read_text()))


def ends(process: int) -> bool:
    """Within 20 seconds."""
    state, deadline = Path(f"/proc/{process}/stat"), time.monotonic() + 20
    while state.exists() and state.read_text().split()[2] != "Z":
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
