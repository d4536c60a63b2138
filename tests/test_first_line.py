"""The line of a library's message that is told as the cause."""

from __future__ import annotations

import pytest

from vgg_deploy.errors import first_line


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("\n  it broke \nand more", "it broke"),
        ("it raised:\nOSError: no room\n", "it raised: OSError: no room"),
        ("no file:\nTried one, got:\n404\nTried another", "no file: Tried one, got: 404"),
        ("it ended with:", "it ended with:"),
        ("", "RuntimeError"),
    ],
)  # fmt: skip
def test_the_line_that_says_something(message: str, told: str) -> None:
    assert first_line(RuntimeError(message)) == told
