"""Ctrl-C and SIGTERM while TensorRT is at work: no exception crosses its frames."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest

from tests.trt import fake_tensorrt
from tests.trt.fake_tensorrt import Fake
from tests.trt.helpers import built, fake_of, place_of
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.trt import build
from vgg_deploy.trt.interrupt import Signals
from vgg_deploy.trt.log import Log


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def default_handler() -> Iterator[None]:
    """Ctrl-C as Python has it: a suite that a shell started with ``&`` ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def terminated() -> Iterator[list[int]]:
    """Somebody else's handler of SIGTERM, which raises nothing, and what it heard."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    yield heard
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("kind", "method"), [("_Parser", "parse"), ("_Builder", "build_serialized_network")]
)
def test_no_exception_crosses_the_librarys_frames(
    bundle: Bundle,
    fake: Fake,
    kind: str,
    method: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(p.name for p in bundle.root.iterdir())
    target = getattr(fake_tensorrt, kind)
    real, crossed = getattr(target, method), []

    def interrupted(self: Any, *given: Any) -> Any:
        try:
            send(signal.SIGINT)
            return real(self, *given)
        except KeyboardInterrupt:
            crossed.append(method)
            raise

    monkeypatch.setattr(target, method, interrupted)
    monkeypatch.setattr(build, "find_place", lambda _: place_of(fake))
    assert main(["build", str(bundle.root)]) == 130
    assert not crossed
    assert "interrupted" in capsys.readouterr().err
    if method == "parse":
        assert fake.config is not None
        assert not hasattr(fake.config, "progress_monitor"), "the build was begun all the same"
    assert sorted(p.name for p in bundle.root.iterdir() if p.name != ".build.lock") == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_timing_cache_of_an_interrupted_build_is_kept(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = fake_of("11")
    real = fake_tensorrt._Builder.build_serialized_network

    def interrupted(self: Any, *given: Any) -> Any:
        send(signal.SIGINT)
        self.objects.fake.config.cache.content += b"+timed"
        return real(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(fake_tensorrt._Builder, "build_serialized_network", interrupted)
        with pytest.raises(KeyboardInterrupt):
            built(bundle, fake)
    built(bundle, fake)
    assert fake.cached[-1] == b"+timed"


def test_the_first_signal_goes_to_whoever_handled_it_when_the_library_has_returned(
    terminated: list[int],
) -> None:
    log = Log()
    signals = Signals(log)
    with signals.held():
        send(signal.SIGTERM)
        assert log.interrupted
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "a second one ends the process"
        assert not terminated
    with pytest.raises(KeyboardInterrupt):
        signals.deliver()
    assert terminated == [signal.SIGTERM]


def test_a_terminal_that_closes_signals_twice_and_is_heard_once() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: heard.append(number))
    try:
        signals = Signals(Log())
        with signals.held():
            send(signal.SIGHUP)
            send(signal.SIGHUP)
            assert not heard
        with pytest.raises(KeyboardInterrupt):
            signals.deliver()
        assert heard == [signal.SIGHUP]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_does_what_it_usually_does() -> None:
    signals, sent = Signals(Log()), list[int]()
    with pytest.raises(KeyboardInterrupt), signals.held():  # noqa: PT012
        for time in (1, 2, 3):
            sent.append(time)
            send(signal.SIGINT)
    assert sent == [1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_a_signal_nothing_is_handed_on_and_other_threads_hold_none() -> None:
    found: list[object] = []

    def hold(signals: Signals) -> None:
        with signals.held():
            found.append(signal.getsignal(signal.SIGINT))
        signals.deliver()

    thread = Thread(target=hold, args=(Signals(Log()),))
    thread.start()
    thread.join()
    hold(Signals(Log()))
    assert found[0] is signal.default_int_handler
    assert found[1] is not signal.default_int_handler
