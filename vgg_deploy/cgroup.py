"""What a container allows: the limits of Linux control groups, of both versions.

Files and their meaning: the kernel's ``admin-guide/cgroup-v1`` and ``cgroup-v2``. A program sees
the machine's processors and memory whatever its container may use of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

_SELF = Path("/proc/self")


@dataclass(frozen=True)
class Throttling:
    """How often a processor limit has struck, counted since the container began."""

    periods: int  # of the limit, usually 100 ms each, in which something ran
    stopped: int  # of these, in which it was used up and all had to wait


def cores(own: Path = _SELF) -> float | None:
    """Processors' worth of time that may be used, such as 1.5; None without a limit."""
    bound = _bound(own)
    return bound[0] if bound else None


def memory(own: Path = _SELF) -> int | None:
    """Bytes that may be held; None without a limit."""
    limits = [
        limit
        for folder in _levels(own, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if (limit := _number(folder / name)) is not None
    ]
    return min(limits, default=None)


def throttling(own: Path = _SELF) -> Throttling | None:
    """The counters of the limit that ``cores`` tells; None without one."""
    bound = _bound(own)
    if bound is None:
        return None
    told = dict(
        line.split()[:2] for line in _text(bound[1] / "cpu.stat").splitlines() if " " in line
    )
    try:
        return Throttling(periods=int(told["nr_periods"]), stopped=int(told["nr_throttled"]))
    except (KeyError, ValueError):
        return None


def _bound(own: Path) -> tuple[float, Path] | None:
    """The lowest limit on processors and the folder it is set in."""
    limits = ((_cores_of(folder), folder) for folder in _levels(own, "cpu"))
    known = [(limit, folder) for limit, folder in limits if limit is not None]
    return min(known, key=lambda one: one[0], default=None)


def _cores_of(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()  # version 2: quota and period, in microseconds
    if len(words) == 2:
        quota, period = (int(word) if word.isdecimal() else None for word in words)
    else:
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period else None


def _levels(own: Path, controller: str) -> Iterator[Path]:
    """This process's group and those above it, as far as they are shown; limits hold below."""
    for mounted, group in _groups(own, controller):
        folder = mounted / group
        yield folder
        yield from (above for above in folder.parents if above.is_relative_to(mounted))


def _groups(own: Path, controller: str) -> Iterator[tuple[Path, PurePosixPath]]:
    """Where a controller is mounted, and this process's group below that."""
    groups = [line.split(":", 2) for line in _text(own / "cgroup").splitlines()]
    paths = {
        name: p for _, names, p in (g for g in groups if len(g) == 3) for name in names.split(",")
    }
    for line in _text(own / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        mount, kind = before.split(), after.split()
        if len(mount) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        name = "" if kind[0] == "cgroup2" else controller
        if name in paths and (not name or name in kind[2].split(",")):
            yield Path(_plain(mount[4])), _below(PurePosixPath(paths[name]), _plain(mount[3]))


def _below(group: PurePosixPath, root: str) -> PurePosixPath:
    """The group as seen from what is mounted; its root where it lies elsewhere (a namespace)."""
    if ".." not in group.parts and group.is_relative_to(root):
        return group.relative_to(root)
    return PurePosixPath()


def _plain(field: str) -> str:
    return field.replace("\\040", " ")  # how the kernel writes a blank here


def _number(path: Path) -> int | None:
    """None for "max", -1 and what cannot be read."""
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
