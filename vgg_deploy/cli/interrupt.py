"""Ctrl-C that no library can swallow.

An extension module may clear whatever exception is raised while it is being imported, and with it
the ``KeyboardInterrupt`` of a Ctrl-C typed at that moment: the command would go on as if nothing
had been said. So it is remembered, and raised again with the next sign of progress.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_typed = threading.Event()


@contextmanager
def remembered() -> Iterator[None]:
    """While the block runs, ``insist`` knows of every Ctrl-C; elsewhere nothing changes.

    A handler other than Python's own is left in place, and so are all in other threads.
    """
    _typed.clear()
    own = threading.current_thread() is threading.main_thread()
    if not own or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def insist() -> None:
    """Raise ``KeyboardInterrupt`` once more if a Ctrl-C was typed and work still goes on."""
    if _typed.is_set():
        _typed.clear()
        raise KeyboardInterrupt


def _remember(*_: object) -> None:
    _typed.set()
    raise KeyboardInterrupt
