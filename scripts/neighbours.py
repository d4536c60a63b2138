"""Whether other programs were busy while a script measured."""

from __future__ import annotations

import os
from pathlib import Path

MAX_OTHERS = 0.04  # share of all cores; what others disturb more does not count


class Neighbours:
    """CPU time that other processes take while the block runs (Linux)."""

    def __enter__(self) -> Neighbours:
        self._start = self._ticks()
        return self

    def __exit__(self, *error: object) -> None:
        end = self._ticks()
        self.share: float | None = None
        if self._start and end:
            busy, own, every = (b - a for a, b in zip(self._start, end, strict=True))
            self.share = max(0.0, busy - own) / every

    @staticmethod
    def _ticks() -> tuple[float, float, float] | None:
        """Busy time of all cores, of this process and its ended children, time of all cores."""
        stat = Path("/proc/stat")
        if not stat.exists():
            return None
        user, nice, system, idle, wait, *rest = map(int, stat.read_text().split()[1:9])
        busy = user + nice + system + sum(rest)
        own = sum(os.times()[:4]) * os.sysconf("SC_CLK_TCK")
        return busy, own, busy + idle + wait
