"""SIGTERM, SIGHUP and Ctrl-C as a wish that is fulfilled after the current step."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
REPEAT = 5.0  # seconds
PATIENCE = 15.0  # seconds; torchrun kills after 30


def _heeded() -> tuple[signal.Signals, ...]:
    """The signals that are a wish: of a terminal that closes only without ``nohup``."""
    if _HANG_UP is None or signal.getsignal(_HANG_UP) is signal.SIG_IGN:
        return _SIGNALS
    return (*_SIGNALS, _HANG_UP)


class StopWish:
    """Within the block the first signal is noted; a second one acts as it always does.

    Of several processes each may get one signal twice: from the scheduler, which sends it to all,
    and from torchrun, which passes on its own. There a repeat within ``REPEAT`` is the same one.

    Where the block ends as if there had been none, the signal is sent again: it came too late for
    a step to fulfil it.

    Outside the main thread, where Python allows no handlers, only the time limit works.
    """

    def __init__(self, max_minutes: float | None = None) -> None:
        self.signal: str | None = None
        self.timed_out = False
        self.spent = 0.0  # seconds of the limit that were used before this process
        self._seconds = None if max_minutes is None else 60 * max_minutes
        self._heard_at = 0.0
        self._several = int(os.environ.get("WORLD_SIZE", "1")) > 1
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopWish:
        self._start = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            for number in _heeded():
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        self._restore()
        if self.signal and kind is None:
            signal.raise_signal(signal.Signals[self.signal])

    def __bool__(self) -> bool:
        """Whether the run is to stop."""
        if self._seconds is not None and self._used() >= self._seconds:
            self.timed_out = True
        return self.signal is not None or self.timed_out

    def _used(self) -> float:
        return time.monotonic() - self._start + self.spent

    @property
    def overdue(self) -> bool:
        """Whether a signal has waited for so long that no step is going to end any more."""
        return self.signal is not None and time.monotonic() - self._heard_at > PATIENCE

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._heard_at = signal.Signals(number).name, time.monotonic()
            if not self._several:
                self._restore(again=number == _HANG_UP)
        elif time.monotonic() - self._heard_at > REPEAT:
            self._restore()
            signal.raise_signal(number)

    def _restore(self, *, again: bool = False) -> None:
        """Put the handlers back; if SIGHUP comes ``again``, its own at the end of the block.

        A shell and the kernel both send it when a terminal closes.
        """
        before, self._before = self._before, {}
        if again and _HANG_UP is not None:
            self._before = {_HANG_UP: before.pop(_HANG_UP)}
            signal.signal(_HANG_UP, signal.SIG_IGN)
        for number, handler in before.items():
            signal.signal(number, handler)
