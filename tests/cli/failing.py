"""A command that must fail, and the options of a small network."""

from __future__ import annotations

import pytest

from vgg_deploy.cli import main

TINY = ["--arch", "1x4-1x8", "--width", "1", "--size", "32", "--fc-width", "16"]


def failure(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit code and stderr of a command that must fail in two lines without a traceback."""
    code = main(args)
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith(("vgg-deploy: error:", "  rem"))]
    assert len(lines) == 2, said
    assert "Traceback" not in said
    return code, said
