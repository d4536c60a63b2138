"""Ctrl-C that no library can swallow; SIGTERM and SIGHUP, which end a command as Ctrl-C does.

An extension module may clear whatever exception is raised while it is being imported, and with it
the ``KeyboardInterrupt`` of a Ctrl-C typed at that moment: the command would go on as if nothing
had been said. So it is remembered, and raised again with the next sign of progress. SIGTERM, which
``timeout`` and schedulers send, and SIGHUP of a terminal that is closed would end the process at
once and leave half-written files behind.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
_typed = threading.Event()  # and not yet raised again
_heard = threading.Event()


@contextmanager
def remembered() -> Iterator[None]:
    """While the block runs, ``insist`` knows of every such signal, and of none elsewhere.

    A handler other than Python's own is left in place, as of ``nohup``, and so are all in other
    threads. Of several processes none takes SIGTERM and SIGHUP: one that waits for the others runs
    no Python, and would not end.
    """
    _typed.clear()
    _heard.clear()
    own = threading.current_thread() is threading.main_thread()
    usual: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
    }
    if _HANG_UP is not None:
        usual[_HANG_UP] = signal.SIG_DFL
    if os.environ.get("WORLD_SIZE", "1") != "1":
        usual = {signal.SIGINT: usual[signal.SIGINT]}
    taken = [n for n, handler in usual.items() if own and signal.getsignal(n) is handler]
    for number in taken:
        signal.signal(number, _remember)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, usual[number])
        _typed.clear()


def heard() -> bool:
    """Whether a Ctrl-C or SIGTERM came in the last such block.

    What is raised after a library swallowed one may be that library's own error, such as an
    ``ImportError`` of a module that was left half initialised.
    """
    return _heard.is_set()


def insist() -> None:
    """Raise ``KeyboardInterrupt`` once more if a Ctrl-C was typed and work still goes on."""
    if _typed.is_set():
        _typed.clear()
        raise KeyboardInterrupt


def _remember(number: int, _frame: object) -> None:
    _typed.set()
    _heard.set()
    if number == _HANG_UP:  # a shell and the kernel both send it when a terminal closes
        signal.signal(number, signal.SIG_IGN)
    elif number == signal.SIGTERM:  # a second one ends the process at once
        signal.signal(number, signal.SIG_DFL)
    raise KeyboardInterrupt
