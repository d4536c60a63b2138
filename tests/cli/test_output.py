"""Where output goes: JSON that any reader takes, and readers that go away."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import pytest

from vgg_deploy.cli.console import print_json


def test_json_is_json_even_of_what_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [math.nan, 1.5], "b": {"c": -math.inf}})
    assert json.loads(capsys.readouterr().out) == {"a": [None, 1.5], "b": {"c": None}}


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(buffered: str) -> None:
    """As with `vgg-deploy … | head`: written at once or when the command ends."""
    command = [sys.executable, "-m", "vgg_deploy", "recipes", "--json"]
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        said = running.stderr.read()
    assert (running.returncode, said) == (0, "")
