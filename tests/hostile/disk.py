"""A real disk that is full or read-only: a tmpfs in a mount namespace of its own.

    python tests/hostile/disk.py STATE MEGABYTES SOURCE COMMAND...

copies the folder SOURCE to the new disk as ``bundle``, makes the disk full or read-only, runs
``vgg-deploy COMMAND...`` there and prints one line of JSON: exit code, stderr, and the digests of
all files before and after.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


@cache
def unavailable() -> str:
    """Why no such disk can be made here, or an empty string."""
    if shutil.which("unshare") is None:
        return "no unshare (util-linux) for a disk of its own"
    with tempfile.TemporaryDirectory() as folder:
        probe = (*_UNSHARE, "mount", "-t", "tmpfs", "tmpfs", folder)
        done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"no mount namespace: {done.stderr.strip()}" if done.returncode else ""


def run_on_disk(state: str, megabytes: int, source: Path, *words: str) -> dict[str, Any]:
    """Run a command on such a disk; see the module for what comes back."""
    command = [*_UNSHARE, sys.executable, __file__, state, str(megabytes), str(source), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _main(state: str, megabytes: str, source: str, *words: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder) / "disk"
        disk.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(disk))
        try:
            shutil.copytree(source, disk / "bundle")
            if state == "full":
                _fill(disk)
            if state == "read-only":
                _mount("-o", "remount,ro", str(disk))
            before = _digests(disk)
            code = "import sys; from vgg_deploy.cli import main; sys.exit(main())"
            done = subprocess.run(
                [sys.executable, "-c", code, *words],
                cwd=disk,
                capture_output=True,
                text=True,
                check=False,
            )
            found = {"code": done.returncode, "said": done.stderr, "before": before}
            print(json.dumps({**found, "after": _digests(disk)}))  # noqa: T201
        finally:
            subprocess.run(("umount", str(disk)), check=True)


def _mount(*words: str) -> None:
    subprocess.run(("mount", *words), check=True)


def _fill(disk: Path) -> None:
    state = os.statvfs(disk)
    with (disk / "filler").open("wb") as file:
        file.write(b"\1" * (state.f_bavail * state.f_frsize))


def _digests(disk: Path) -> dict[str, str]:
    """SHA-256 of every file, locks apart: they are empty and stay."""
    files = [p for p in sorted(disk.rglob("*")) if p.is_file() and p.name != ".lock"]
    return {str(p.relative_to(disk)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


if __name__ == "__main__":
    _main(*sys.argv[1:])
