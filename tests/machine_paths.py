"""Which paths of the machine that it was made on a stored text names."""

from __future__ import annotations

import re

_PATH = re.compile(r"(?<![\w.~-])/(?:root|home|opt|tmp|work|Users)/[^\"\s,]*")


def machine_paths(text: str) -> list[str]:
    """Those that lie where users and their programs do; none of what begins with another folder."""
    return _PATH.findall(text)
