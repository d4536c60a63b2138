"""A Ctrl-C that a library swallowed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from vgg_deploy.cli import handler
from vgg_deploy.cli.interrupt import insist, remembered
from vgg_deploy.cli.progress import RichWatcher
from vgg_deploy.errors import BackendNotAvailable, Interrupted


def swallowed() -> None:
    """As an extension module does that clears errors while it is imported."""
    with suppress(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("step", ["begin", "advance"])
def test_it_comes_again_with_the_next_progress(
    step: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(_words: list[str]) -> int:
        watch = RichWatcher(Console(stderr=True), live=False)
        watch.begin("first")
        swallowed()
        watch.begin("second") if step == "begin" else watch.advance()
        return 0

    monkeypatch.setattr(handler, "_invoke", command)
    assert handler.run(["bench"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BackendNotAvailable("onnxruntime cannot be imported", "pip install"), "interrupted"),
        (ImportError("initialization failed"), "interrupted"),
        (Interrupted("stopped by SIGTERM", "go on with --resume"), "stopped by SIGTERM"),
    ],
    ids=repr,
)
def test_what_a_swallowed_one_breaks_is_told_as_interrupted(
    error: Exception,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As onnxruntime's extension does: it clears the exception and fails with its own."""

    def command(_words: list[str]) -> int:
        swallowed()
        raise error

    monkeypatch.setattr(handler, "_invoke", command)
    assert handler.run(["export"]) == 130
    assert f"error: {said}" in capsys.readouterr().err


def test_it_comes_once_and_is_forgotten_by_the_next_command() -> None:
    with remembered():
        swallowed()
        with pytest.raises(KeyboardInterrupt):
            insist()
        insist()
        swallowed()
    insist()  # work that no command does, in the same process
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


TERMINATED = """
import os, pathlib, signal, sys, time
from vgg_deploy.cli import handler
from vgg_deploy.files import atomic

def export(words):
    with atomic(pathlib.Path("model.onnx")) as partial:
        partial.write_bytes(b"half of it")
        os.kill(os.getpid(), signal.Signals[sys.argv[1]])
        time.sleep(60)

handler._invoke = export
sys.exit(handler.run([]))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_leaves_nothing_half_written(tmp_path: Path, name: str) -> None:
    """As ``timeout``, ``docker stop`` and schedulers send it, or a terminal that is closed."""
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED, name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 130, done.stderr
    assert "interrupted" in done.stderr
    assert list(tmp_path.iterdir()) == []


TWICE = """
import os, signal, sys, time
from vgg_deploy.cli import handler

def bench(words):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    except KeyboardInterrupt:
        pass  # swallowed by a library
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

handler._invoke = bench
sys.exit(handler.run([]))
"""


HUNG_UP = """
import os, pathlib, signal, sys, time
from vgg_deploy.cli import handler

def export(words):
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        time.sleep(60)
    finally:
        os.kill(os.getpid(), signal.SIGHUP)
        pathlib.Path("tidied").touch()

handler._invoke = export
sys.exit(handler.run([]))
"""


def test_a_closed_terminal_is_heard_once(tmp_path: Path) -> None:
    """A shell sends its jobs SIGHUP, and the kernel once more: tidying up goes on."""
    words = [sys.executable, "-c", HUNG_UP]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False, timeout=50)
    assert done.returncode == 130, done.stderr
    assert (tmp_path / "tidied").exists()


def test_a_second_sigterm_ends_the_process_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWICE], capture_output=True, check=False, timeout=50
    )
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize(("processes", "taken"), [("1", True), ("2", False)])
def test_of_several_processes_none_takes_them(
    processes: str, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    numbers = (signal.SIGTERM, signal.SIGHUP)
    with remembered():
        assert [signal.getsignal(n) is not signal.SIG_DFL for n in numbers] == [taken, taken]
    assert [signal.getsignal(n) for n in numbers] == [signal.SIG_DFL, signal.SIG_DFL]


def test_with_nohup_a_closed_terminal_is_not_heard() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with remembered():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


CLOSED = """
import os, pty, signal, sys, time
pid, terminal = pty.fork()
if pid == 0:
    from vgg_deploy.cli import console, handler
    def train(words):
        with console.watching() as watch:
            for _ in range(100):
                watch.say("still there")
                time.sleep(0.01)
        return 0
    if sys.argv[1] == "nohup":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    handler._invoke = train
    os._exit(handler.run([]))
os.read(terminal, 1)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize(("how", "code"), [("", 130), ("nohup", 0)])
def test_a_terminal_that_closes_under_a_command(how: str, code: int) -> None:
    """What is said then cannot be written any more; that breaks nothing."""
    words = [sys.executable, "-c", CLOSED, how]
    assert subprocess.run(words, check=False, timeout=50).returncode == code
