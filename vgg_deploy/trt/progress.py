"""How a build tells its progress: TensorRT's phases, where it reports them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from vgg_deploy.trt.log import Log

_SAID_EVERY_S = 60.0


class Progress(Protocol):
    """Who is told; ``pipeline.watch.Watcher`` fits."""

    def begin(self, what: str, total: int | None = None, unit: str = "") -> None:
        """A step starts."""
        ...

    def advance(self, done: int = 1) -> None:
        """So much of it is done."""
        ...

    def say(self, text: str) -> None:
        """One line that stays."""
        ...


class Phases:
    """Keeps TensorRT's nested phases apart: the innermost is shown.

    ``interrupted`` is set by Ctrl-C, here or in the logger: an exception must not cross TensorRT's
    own frames, so the build is asked to stop and the caller raises. What else goes wrong while
    progress is told, a closed stream or two of TensorRT's threads at once, costs no build: the
    binding would print it and stop.
    """

    def __init__(self, title: str, progress: Progress, log: Log) -> None:
        self._title = title
        self._log = log
        self._progress = progress
        self._open: list[tuple[str, int, int]] = []  # name, steps, steps done

    @property
    def interrupted(self) -> bool:
        """Whether somebody pressed Ctrl-C since the build began."""
        return self._log.interrupted

    def start(self, name: str, steps: int) -> None:
        """A phase begins inside the one that is open."""
        self._guard(lambda: self._push(name, steps))

    def step(self, name: str) -> bool:
        """A step of a phase is done; False asks TensorRT to stop."""
        self._guard(lambda: self._step(name))
        return not self.interrupted

    def finish(self, name: str) -> None:
        """A phase ends; the one around it is shown again."""
        self._guard(lambda: self._pop(name))

    def _guard(self, tell: Any) -> None:
        try:
            with suppress(Exception):
                tell()
        except KeyboardInterrupt:
            self._log.interrupted = True

    def _push(self, name: str, steps: int) -> None:
        self._open.append((name, steps, 0))
        self._show()

    def _step(self, name: str) -> None:
        for i, (known, steps, done) in enumerate(self._open):
            if known == name:
                self._open[i] = (known, steps, done + 1)
        if self._open and self._open[-1][0] == name:
            self._progress.advance()

    def _pop(self, name: str) -> None:
        self._open = [phase for phase in self._open if phase[0] != name]
        self._show()

    def _show(self) -> None:
        if self._open:
            name, steps, done = self._open[-1]
            self._progress.begin(f"{self._title}: {name}", steps)
            self._progress.advance(done)


class Kernels:
    """What an older builder's log tells of its progress: whose kernels are timed.

    Besides the progress line a line that stays, once a minute: a log would show nothing, and
    VGG-16 in fp16 took TensorRT 8.6 more than three minutes.
    """

    def __init__(
        self,
        title: str,
        progress: Progress,
        products: Sequence[str],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title, self._progress, self._products, self._now = title, progress, products, now
        self._began = self._said = now()
        self._shown = ""

    def timed(self, nodes: str) -> None:
        """The builder times kernels of these nodes, ``node_conv2d + node_relu`` for one layer."""
        named = nodes.split(" + ")
        found = next((name for name in self._products if name in named), "")
        if not found:  # a change of layout, or something small
            return
        number = self._products.index(found) + 1
        what = f"{self._title}: kernels of {found}, {number} of {len(self._products)}"
        if found != self._shown:
            self._shown = found
            self._progress.begin(what)
        if self._now() - self._said >= _SAID_EVERY_S:
            self._said = self._now()
            self._progress.say(f"{what}, after {self._said - self._began:.0f} s")


def monitor(module: Any, phases: Phases) -> Any:
    """TensorRT's ``IProgressMonitor`` over ``phases``; None where this version has none."""
    if not hasattr(module, "IProgressMonitor"):
        return None

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)  # pybind11 does not follow super()

        def phase_start(self, name: str, _parent: str | None, steps: int) -> None:
            phases.start(name, steps)

        def step_complete(self, name: str, _step: int) -> bool:
            return phases.step(name)

        def phase_finish(self, name: str) -> None:
            phases.finish(name)

    return Monitor()
