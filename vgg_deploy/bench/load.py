"""Was this process alone? The machine's busy time against its own, from Linux's counters.

A load average answers too late and counts the measured program itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy import cgroup

_STAT = Path("/proc/stat")
_LEAST_S = 0.5  # the counters tick every 10 ms; over less than this they say nothing
# Columns of its first line: user nice system idle iowait irq softirq steal.
_IDLE, _IOWAIT, _COUNTED = 3, 4, 8


@dataclass(frozen=True, kw_only=True)
class Load:
    """Seconds of processor time at one moment or between two, all cores added up."""

    wall: float
    busy: float  # of the machine, stolen by a hypervisor included
    own: float  # of this process
    periods: int = 0  # of the container's processor limit; 0: none known
    stopped: int = 0  # of these, in which it was used up


def look() -> Load | None:
    """The counters now; None where the system has no ``/proc/stat``."""
    try:
        columns = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1 : 1 + _COUNTED]
        ticks = [int(column) for column in columns]
        per_second = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None
    busy = sum(ticks) - sum(ticks[_IDLE : _IOWAIT + 1])
    limit = cgroup.throttling()
    return Load(
        wall=time.monotonic(),
        busy=busy / per_second,
        own=time.process_time(),
        periods=limit.periods if limit else 0,
        stopped=limit.stopped if limit else 0,
    )


def between(before: Load | None, after: Load | None) -> Load | None:
    """What was spent from one look to the next; None where one of them is."""
    if before is None or after is None:
        return None
    return Load(**{name: value - vars(before)[name] for name, value in vars(after).items()})


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
    if spent is None or spent.wall < _LEAST_S:
        return None
    return max(0.0, spent.busy - spent.own) / spent.wall


def throttled_share(spent: Load | None) -> float:
    """Share of the periods in which the container's limit stopped it; 0 without a limit."""
    return spent.stopped / spent.periods if spent and spent.periods > 0 else 0.0
