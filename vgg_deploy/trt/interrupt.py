"""Ctrl-C, SIGTERM and SIGHUP while TensorRT is at work, which no exception may cross.

Python delivers a signal with the first line of whatever TensorRT calls back, so before any ``try``
there can catch it; the binding then prints a traceback and the build goes on. Hence the first
signal is only noted, progress tells TensorRT to stop, and whoever handled signals before gets it
when TensorRT has returned. A second Ctrl-C does what it usually does, a second SIGTERM ends the
process, and a second SIGHUP, which a closed terminal sends, too, is nothing new.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from vgg_deploy.trt.log import Log

_HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
_HELD = (signal.SIGINT, signal.SIGTERM, *([_HANG_UP] if _HANG_UP else ()))
_SECOND = {
    int(signal.SIGTERM): signal.SIG_DFL,
    **({int(_HANG_UP): signal.SIG_IGN} if _HANG_UP else {}),
}
Handler = Callable[[int, FrameType | None], Any]


class Signals:
    """Of one build. In other threads than the main one nothing is held, as none arrives there."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._waiting: list[tuple[int, Handler]] = []

    @contextmanager
    def held(self) -> Iterator[None]:
        """While the block runs, the first signal sets ``Log.interrupted`` and does nothing else."""
        main = threading.current_thread() is threading.main_thread()
        found = {n: signal.getsignal(n) for n in _HELD if main}
        usual: dict[int, Handler] = {n: h for n, h in found.items() if callable(h)}

        def note(number: int, _frame: FrameType | None) -> None:
            self._log.interrupted = True
            self._waiting.append((number, usual[number]))
            signal.signal(number, _SECOND.get(number, usual[number]))

        for number in usual:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)

    def deliver(self) -> None:
        """Hand on what was held; ``KeyboardInterrupt`` where TensorRT was asked to stop."""
        while self._waiting:
            number, handler = self._waiting.pop(0)
            handler(number, None)
        if self._log.interrupted:
            raise KeyboardInterrupt
