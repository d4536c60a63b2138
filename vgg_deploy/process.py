"""Child processes that end together with all that they have started.

What hangs on a GPU often hangs in a grandchild: ending the child alone would leave it there, with
its memory and its load, beside everything that is timed afterwards.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# Before anything else: Python looks for modules in the folder that a child is started in, where a
# user may have a random.py of his own. The command that starts it does not look there.
NOT_HERE = "import sys; sys.path[:1] = filter(None, sys.path[:1]); "
_ROOT = str(Path(__file__).resolve().parent.parent)  # of this package, installed or not
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def module_command(module: str, *words: str, python: str = sys.executable) -> list[str]:
    """What runs a module of ours as ``python -m`` does, but for the folder it is started in.

    Ours is the package that asks, also where another one is installed; only the package itself is
    looked for in its folder first, where other modules may lie.
    """
    code = (
        f"{NOT_HERE}sys.path.insert(0, {_ROOT!r}); import vgg_deploy; "
        "sys.path.append(sys.path.pop(0)); import runpy; "
        f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    )
    return [python, "-c", code, *words]


def run_group(
    command: Sequence[str],
    timeout_s: float,
    *,
    given: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    merged: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process group of its own; ``given`` is its standard input.

    With ``merged`` standard error goes where standard output does, in the order of writing.
    ``TimeoutExpired`` after ``timeout_s``. However this call ends, by then the whole group has
    been killed: Ctrl-C reaches no other group by itself.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else subprocess.PIPE,
        text=True,
        errors="replace",  # one byte that is no text must not lose the rest
        env=env,
        cwd=cwd,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(given, timeout=timeout_s)
        finally:
            _kill_group(process)
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def end_with_parent() -> None:
    """Ask the kernel to kill this process when the one that started it is gone.

    For a child of ``run_group``: a kill of its parent's group does not reach its own. Linux only.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_group(process: subprocess.Popen[str]) -> None:
    """The number still means this group: its leader is not reaped yet, or was a moment ago."""
    if not hasattr(os, "killpg"):  # Windows
        process.kill()
        return
    with suppress(ProcessLookupError, PermissionError):  # macOS: nothing but zombies are left
        os.killpg(process.pid, signal.SIGKILL)
