"""Run an app's own test, with the tools of this machine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from vgg_deploy.embed.targets import Target
from vgg_deploy.errors import BackendNotAvailable, NotEquivalent, ResourceLimit
from vgg_deploy.process import run_group

_SECONDS = 900  # for one step; installing packages is the longest
_LINES = 3
# How Node.js, unittest, pip, the C programs, compilers, Playwright, what it starts, and exceptions
# begin to tell a failure.
_FAILURE = re.compile(
    r"✖ (?!failing tests:)|(FAIL|ERROR): |FAILED |\S+: (fatal )?error: |"
    r"browserType\.|\[pid=\d+\]\[err\] |[\w.]*(Error|Exception)\b[^:]*: "
)


def require_tools(target: Target, *, refuse: bool) -> tuple[str, ...]:
    """What is missing on this machine; with ``refuse`` the first is a ``BackendNotAvailable``."""
    missing = [(tool, problem) for tool in target.tools if (problem := tool.problem())]
    if missing and refuse:
        tool, problem = missing[0]
        raise BackendNotAvailable(
            f"the app's test needs {problem}", f"{tool.remedy}; or leave out --test"
        )
    return tuple(tool.remedy for tool, _ in missing)


def check_app(target: Target, folder: Path) -> None:
    """Install, build and test the app in ``folder``, and remove what that made.

    Raises ``NotEquivalent`` when the test fails, which is the last step, and
    ``BackendNotAvailable`` when one before it does, both with what it said of the failure.
    """
    before, env = set(folder.iterdir()), _environment(target)
    *preparing, test = target.test()
    for command in preparing:
        code, said = _run(command, folder, env)
        if code:
            raise BackendNotAvailable(
                f"the app's test cannot be prepared here: {' '.join(command)} failed: {said}",
                "install what it names; or leave out --test",
            )
    code, said = _run(test, folder, env)
    if code:
        raise NotEquivalent(
            f"the app's own test failed at {' '.join(test)}: {said}",
            "write it without --test and run that command in its folder to see all",
        )
    for path in set(folder.iterdir()) - before:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:  # a core file, a log
            path.unlink()


def _environment(target: Target) -> Mapping[str, str]:
    """The tools that variables name, as the steps find them: these run in another folder."""
    named = {tool.variable: tool.path() for tool in target.tools if tool.variable in os.environ}
    return os.environ | {name: str(Path(path).absolute()) for name, path in named.items() if path}


def _run(command: tuple[str, ...], folder: Path, env: Mapping[str, str]) -> tuple[int, str]:
    """Exit code of a step, and what it said of a failure; what it started ends with it."""
    words = " ".join(command)
    try:
        ended = run_group(command, _SECONDS, cwd=folder, env=env, merged=True)
    except OSError as error:
        raise BackendNotAvailable(
            f"{words} does not start: {error.strerror}",
            f"see to it that {command[0]} runs on this machine; or leave out --test",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ResourceLimit(
            f"{words} did not end in {_SECONDS} s", "try it by hand: leave out --test"
        ) from error
    return ended.returncode, _cause(ended.stdout)


def _cause(said: str) -> str:
    """The first lines that tell a failure; where none does, the last ones."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    failures = [line for line in lines if _FAILURE.match(line)]
    return " | ".join(failures[:_LINES] or lines[-_LINES:])
