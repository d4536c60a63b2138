"""Run an app's own test, with the tools of this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from vgg_deploy.embed.targets import Target
from vgg_deploy.errors import BackendNotAvailable, NotEquivalent, ResourceLimit

_SECONDS = 900  # for one step; installing packages is the longest
_LAST_LINES = 3


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

    Raises ``NotEquivalent`` with the last lines of the step that failed.
    """
    before = set(folder.iterdir())
    for command in target.test():
        _run(command, folder)
    for path in set(folder.iterdir()) - before:
        shutil.rmtree(path)


def _run(command: tuple[str, ...], folder: Path) -> None:
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False,
            timeout=_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise BackendNotAvailable(
            f"{command[0]} is not on this machine", "install it, or leave out --test"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ResourceLimit(
            f"{shown} did not end in {_SECONDS} s", "try it by hand: leave out --test"
        ) from error
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()[-_LAST_LINES:]
        raise NotEquivalent(
            f"the app's own test failed at {shown}: {' | '.join(lines)}",
            "write it without --test and run that command in its folder to see all",
        )
