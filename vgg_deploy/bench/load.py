"""Was this process alone? Its cores' busy time against its own, from Linux's counters.

A load average answers too late and counts the measured program itself. A process that may run on
some cores only is alone there, whatever the others do.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path

from vgg_deploy import cgroup

_STAT = Path("/proc/stat")
_TASKS = Path("/proc/self/task")
LEAST_S = 0.5  # the counters tick every 10 ms; over less than this they say nothing
# Columns of a line, of one core or of all: user nice system idle iowait irq softirq steal.
_IDLE, _IOWAIT, _COUNTED = 3, 4, 8


@dataclass(frozen=True, kw_only=True)
class Load:
    """Seconds of processor time at one moment or between two, cores added up."""

    wall: float
    busy: float  # of these cores, stolen by a hypervisor included
    own: float  # of this process
    periods: int = 0  # of the container's processor limit; 0: none known
    stopped: int = 0  # of these, in which it was used up
    cores: frozenset[int] = frozenset()  # that this process is kept to; empty: to none


def look() -> Load | None:
    """The counters now; None where the system has no ``/proc/stat``."""
    try:
        lines = [line.split() for line in _STAT.read_text(encoding="ascii").splitlines()]
        rows = {line[0]: line[1 : 1 + _COUNTED] for line in lines if line}
        cores = _kept_to(rows)
        busy = sum(_busy(rows[name]) for name in ([f"cpu{n}" for n in cores] or ["cpu"]))
        per_second = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    limit = cgroup.throttling()
    return Load(
        wall=time.monotonic(),
        busy=busy / per_second,
        own=time.process_time(),
        periods=limit.periods if limit else 0,
        stopped=limit.stopped if limit else 0,
        cores=cores,
    )


def _busy(columns: Sequence[str]) -> int:
    """Ticks in which a core, or all of them, did anything."""
    ticks = [int(column) for column in columns]
    return sum(ticks) - sum(ticks[_IDLE : _IOWAIT + 1])


def _kept_to(rows: Collection[str]) -> frozenset[int]:
    """The cores that some thread of ours may use; none where that is all, or the system is silent.

    Threads differ: OpenMP may bind the first to one core and others to theirs. Numbers that the
    counters do not have, as in some containers, are another numbering.
    """
    allowed: set[int] = set()
    for task in _TASKS.iterdir():
        with suppress(OSError):  # it has ended
            allowed |= os.sched_getaffinity(int(task.name))
    counted = {int(name[3:]) for name in rows if name[:3] == "cpu" and name[3:].isdecimal()}
    return frozenset(allowed) if allowed < counted else frozenset()


def between(before: Load | None, after: Load | None) -> Load | None:
    """What was spent from one look to the next; None where one of them is.

    ``busy`` is no number where the looks were at other cores.
    """
    if before is None or after is None:
        return None
    names = [field.name for field in fields(Load) if field.name != "cores"]
    spent = {name: getattr(after, name) - getattr(before, name) for name in names}
    load = Load(**spent, cores=after.cores)
    return load if before.cores == after.cores else replace(load, busy=math.nan)


def together(spans: Sequence[Load | None]) -> Load | None:
    """What was spent in several spans of time; None where one of them is not known."""
    known = [span for span in spans if span is not None]
    if len(known) < len(spans):
        return None
    return Load(
        wall=sum(span.wall for span in known),
        busy=sum(span.busy for span in known),
        own=sum(span.own for span in known),
        periods=sum(span.periods for span in known),
        stopped=sum(span.stopped for span in known),
    )


def cores_of_others(spent: Load | None) -> float | None:
    """Cores that other programs kept busy meanwhile; None where it cannot be told."""
    if spent is None or spent.wall < LEAST_S or math.isnan(spent.busy):
        return None
    return max(0.0, spent.busy - spent.own) / spent.wall


def throttled_share(spent: Load | None) -> float:
    """Share of the periods in which the container's limit stopped it; 0 without a limit."""
    return spent.stopped / spent.periods if spent and spent.periods > 0 else 0.0
