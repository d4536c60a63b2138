"""How long a step of unknown length took here the last time, so that the time left can be told.

A compiler and an exporter say nothing while they work. The seconds are kept per machine, in the
user's cache; the file may be deleted or damaged at any time, then nothing is known again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from vgg_deploy.errors import VggDeployError
from vgg_deploy.files import user_cache, write_text
from vgg_deploy.pipeline.watch import Watcher

_MOST = 200  # steps kept, the newest


def begin_usual(watch: Watcher, what: str, like: str) -> Callable[[], None]:
    """Begin a step with the seconds that the last one with the same ``like`` took.

    What is returned is to be called when the work was done, and not when its result was reused.
    """
    watch.begin(what, seconds=_known().get(like))
    start = time.monotonic()
    return lambda: _keep(like, time.monotonic() - start)


def _file() -> Path:
    return user_cache("usual") / "seconds.json"


def _known() -> dict[str, float]:
    try:
        content = json.loads(_file().read_text(encoding="utf-8"))
        return {str(like): float(seconds) for like, seconds in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, VggDeployError):
        return {}


def _keep(like: str, seconds: float) -> None:
    known = _known()
    known.pop(like, None)  # the newest stands last
    known[like] = round(seconds, 2)
    try:
        write_text(_file(), json.dumps(dict(list(known.items())[-_MOST:]), indent=0))
    except VggDeployError:
        return  # no home, or one that cannot be written to: nothing is known next time either
