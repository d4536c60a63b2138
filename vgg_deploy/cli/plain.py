"""What is printed where the terminal's encoding has no signs: a tick must not cost the verdict."""

from __future__ import annotations

import codecs
import sys
from contextlib import suppress
from io import TextIOWrapper

_NAME = "vgg_deploy.plain"  # of the error handler
# One character each where a column is as wide as it.
_PLAIN = {
    "✓": "+",
    "✗": "x",
    "⨯": "#",
    "–": "-",
    "−": "-",
    "‑": "-",
    "×": "x",
    "÷": "/",
    "·": "*",
    "’": "'",
    "µ": "u",
    "≤": "<=",
    "≥": ">=",
    "→": "->",
    "…": "...",
    "└": "`",
    "├": "|",
    "│": "|",
    "─": "-",
}
_RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-", strict=True))
_BRAILLE = range(0x2800, 0x2900)  # a spinner's dots


def no_sign_fails() -> None:
    """From now on stdout and stderr print what their encoding lacks in ASCII."""
    codecs.register_error(_NAME, _replaced)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a program that calls us may have put another there
            with suppress(OSError):  # a file that is a terminal by now: nothing to tell of it
                stream.reconfigure(errors=_NAME)


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    power = "^" if text[0] in _RAISED else ""
    return power + "".join(map(_plain, text)), error.end


def _plain(sign: str) -> str:
    if ord(sign) in _BRAILLE:
        return "*"
    known = _PLAIN.get(sign) or _RAISED.get(sign)
    return known or sign.encode("ascii", "backslashreplace").decode()
