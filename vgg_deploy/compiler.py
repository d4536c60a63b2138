"""The C++ compiler of this machine: one answer for whatever compiles, or says that it cannot."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

_COMPILERS = ("g++", "clang++")
_LAUNCHERS = ("ccache", "sccache", "distcc", "icecc")


def compiler() -> str | None:
    """Path of the C++ compiler: ``$CXX`` where it is set, else g++, else clang++.

    Of ``ccache g++`` it is g++: inductor takes one path, and no options.
    """
    wanted = os.environ.get("CXX")
    names = (wanted, _program_of(wanted)) if wanted else _COMPILERS
    return next(filter(None, map(shutil.which, names)), None)


def sought() -> str:
    """What ``compiler`` looks for, for a message that it was not found."""
    wanted = os.environ.get("CXX")
    return f"no $CXX ({wanted})" if wanted else f"neither {' nor '.join(_COMPILERS)}"


def lacking() -> tuple[str, str] | None:
    """What a machine lacks to compile a network, and the remedy; None where it lacks nothing."""
    if not compiler():
        how = "xcode-select --install" if sys.platform == "darwin" else "apt install g++"
        return (
            f"no C++ compiler: {sought()} was found",
            f"install one: {how}; or point $CXX to yours, without options",
        )
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python's C headers are not installed", "apt install python3-dev"
    return None


def compiler_version(path: str) -> str:
    """A compiler's own word for its version."""
    try:
        done = subprocess.run(
            [path, "-dumpversion"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()


def for_inductor() -> dict[str, Any]:
    """Options that let inductor use this compiler, and not only the one it would look for."""
    return {"cpp.cxx": (None, compiler())}


def _program_of(command: str) -> str:
    """The compiler behind launchers; a command with options stays what it is, a name of none."""
    try:
        words = shlex.split(command)
    except ValueError:  # an open quote
        return command
    programs = [word for word in words if Path(word).name not in _LAUNCHERS]
    return programs[0] if len(programs) == 1 else command
