"""Every command line of the README and the docs runs, page by page, in a folder with the docs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from vgg_deploy.cli import main
from vgg_deploy.cli.app import COMMANDS, app

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").glob("*.md"))]


def command_lines(page: Path) -> list[str]:
    """Lines after ``$`` in console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


RUNNABLE = [page for page in PAGES if command_lines(page)]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_command_lines_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")  # some lines use an image from there
    for line in command_lines(page):
        program, *words = shlex.split(line)
        assert program == "vgg-deploy", line
        assert main(words) == 0, line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_only_shown_exist(page: Path) -> None:
    shown = re.findall(
        r"^ {4}vgg-deploy (\S+)(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE
    )
    for command, rest in shown:
        assert command in COMMANDS, command
        known = {
            name
            for parameter in get_command(app).commands[command].params  # type: ignore[attr-defined]
            for name in (*parameter.opts, *parameter.secondary_opts)
        }
        for option in re.findall(r"--[a-z][a-z0-9-]*", rest):
            assert option in known, (command, option)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_exit_codes_of_the_docs_are_the_codes() -> None:
    from vgg_deploy import errors

    told = {
        int(n) for n in re.findall(r"^\| (\d+) \|", (ROOT / "docs/commands.md").read_text(), re.M)
    }
    real = {c.exit_code for c in errors.VggDeployError.__subclasses__()}
    assert told == real | {0, errors.EXIT_INTERNAL, errors.EXIT_INTERRUPTED}
