"""The tools that an app's test needs: missing, too old, broken, named by a variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.embed.conftest import program
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main


def test_a_missing_tool_is_named_before_anything_is_written(
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "app"
    words = ["embed", str(bundle.root), "--target", "c", "-o", str(out)]
    assert main([*words, "--test"]) == 10
    said = capsys.readouterr().err
    assert "needs cmake" in said
    assert "apt-get install cmake" in said
    assert not out.exists()
    assert main(words) == 0  # writing needs no tool
    assert "apt-get install cmake" in capsys.readouterr().err


NODE = ("node", "node", "npm")  # target, the tool that is too old, another one
CMAKE = ("c", "cmake", "cc")


@pytest.mark.parametrize(
    ("tools", "version", "said"),
    [
        (NODE, "v18.19.0", "needs node 20 or newer; {path} is version 18.19"),
        (NODE, "v20.0.0", ""),
        (NODE, "nothing", ""),
        (CMAKE, "cmake version 3.18.4", "needs cmake 3.20 or newer; {path} is version 3.18"),
        (CMAKE, "cmake version 3.20.0", ""),
        (CMAKE, "cmake version 4.0.1", ""),
    ],
)
def test_an_older_tool_is_refused(
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tools: tuple[str, str, str],
    version: str,
    said: str,
) -> None:
    """Stand-ins for the tools: old ones are not at hand."""
    target, old, other = tools
    folder = tmp_path / "tools"
    builds = "; [ $1 = --build ] && /bin/mkdir build && /bin/ln -s /bin/true build/test_classifier"
    program(folder, old, f"echo {version}{builds if target == 'c' else ''}; true")
    program(folder, other, "echo 9.2.0")
    program(folder, "ctest", "")
    monkeypatch.setenv("PATH", str(folder))
    out = tmp_path / "app"
    words = ["embed", str(bundle.root), "--target", target, "-o", str(out), "--test"]
    assert main(words) == (10 if said else 0), capsys.readouterr().err
    assert said.format(path=folder / old) in capsys.readouterr().err
    assert out.exists() == (not said)


STUB = "Command '/usr/bin/chromium-browser' requires the chromium snap to be installed."


def node_tools(folder: Path) -> Path:
    """A folder with stand-ins for Node.js and npm."""
    for name in ("node", "npm"):
        program(folder, name, "echo v22.0.0")
    return folder


def browser_test(bundle: Bundle, out: Path) -> int:
    return main(["embed", str(bundle.root), "--target", "browser", "-o", str(out), "--test"])


def test_a_tool_that_does_not_run_is_named(
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ubuntu's chromium-browser only says that a snap is needed."""
    folder, out = node_tools(tmp_path / "tools"), tmp_path / "app"
    stub = program(folder, "chromium-browser", f'echo "{STUB}" >&2; exit 1')
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CHROMIUM", raising=False)
    assert browser_test(bundle, out) == 10
    said = " ".join(capsys.readouterr().err.split())
    assert f"{stub} --version ends with exit code 1 and says: {STUB}" in said
    assert "set CHROMIUM to its program" in said
    assert not out.exists()


def test_the_browser_that_chromium_names_is_taken(
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, out = node_tools(tmp_path / "tools"), tmp_path / "app"
    monkeypatch.setenv("PATH", str(folder))
    own = program(tmp_path / "elsewhere", "my-browser", "echo Chromium 140.0")
    monkeypatch.setenv("CHROMIUM", str(own))
    assert browser_test(bundle, out) == 0, capsys.readouterr().err
    program(folder, "chromium", "echo Chromium 140.0")
    monkeypatch.setenv("CHROMIUM", str(own.with_name("gone")))
    assert browser_test(bundle, tmp_path / "other") == 10  # as the app's own test would
    assert "gone, which is not on this machine" in " ".join(capsys.readouterr().err.split())


def test_a_browser_beside_the_user_is_found_from_the_app_too(
    bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "tools"
    program(folder, "node", "echo v22.0.0")
    program(folder, "npm", '[ "$1" = ci ] || [ -x "$CHROMIUM" ] || [ "$1" = --version ]')
    program(tmp_path / "elsewhere", "my-browser", "echo Chromium 140.0")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHROMIUM", "elsewhere/my-browser")
    assert browser_test(bundle, tmp_path / "app") == 0, capsys.readouterr().err
