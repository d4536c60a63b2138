"""Run an app's own test, with the tools of this machine."""

from __future__ import annotations

import os
import shutil
import signal
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

    Raises ``NotEquivalent`` when the test fails, which is the last step, and
    ``BackendNotAvailable`` when one before it does, both with the last lines it said.
    """
    before = set(folder.iterdir())
    *preparing, test = target.test()
    for command in preparing:
        code, last = _run(command, folder)
        if code:
            raise BackendNotAvailable(
                f"the app's test cannot be prepared here: {' '.join(command)} failed: {last}",
                "install what it names; or leave out --test",
            )
    code, last = _run(test, folder)
    if code:
        raise NotEquivalent(
            f"the app's own test failed at {' '.join(test)}: {last}",
            "write it without --test and run that command in its folder to see all",
        )
    for path in set(folder.iterdir()) - before:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:  # a core file, a log
            path.unlink()


def _run(command: tuple[str, ...], folder: Path) -> tuple[int, str]:
    """Exit code and last lines of a step; what it started ends with it."""
    try:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise BackendNotAvailable(
            f"{command[0]} is not on this machine", "install it, or leave out --test"
        ) from error
    with process:
        try:
            said, _ = process.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise ResourceLimit(
                f"{' '.join(command)} did not end in {_SECONDS} s",
                "try it by hand: leave out --test",
            ) from error
        finally:
            if process.poll() is None:  # Ctrl-C does not reach another session either
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, " | ".join(said.strip().splitlines()[-_LAST_LINES:])
