"""A Ctrl-C that a library swallowed."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest
from rich.console import Console

from vgg_deploy.cli import handler
from vgg_deploy.cli.interrupt import insist, remembered
from vgg_deploy.cli.progress import RichWatcher


def swallowed() -> None:
    """As an extension module does that clears errors while it is imported."""
    with suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("step", ["begin", "advance"])
def test_it_comes_again_with_the_next_progress(
    step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(_words: list[str]) -> int:
        watch = RichWatcher(Console(stderr=True))
        watch.begin("first")
        swallowed()
        watch.begin("second") if step == "begin" else watch.advance()
        return 0

    monkeypatch.setattr(handler, "_invoke", command)
    assert handler.run(["bench"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_comes_once_and_is_forgotten_by_the_next_command() -> None:
    with remembered():
        swallowed()
        with pytest.raises(KeyboardInterrupt):
            insist()
        insist()
        swallowed()
    with remembered():
        insist()


def test_another_handler_is_left_in_place() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        with remembered():
            swallowed()
            insist()
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]
