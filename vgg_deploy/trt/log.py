"""TensorRT's logger: nothing is printed, what matters is kept for errors and records."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

_ERRORS = ("INTERNAL_ERROR", "ERROR")
_LAYERS = re.compile(r"\A(Layers:|Engine Layer Information:)")
# As the builder says it before it times one kind of kernel: nodes of the ONNX file, and the kind.
_TIMED = re.compile(r"-+ Timing Runner: (?P<nodes>.+) \(\w+(\[\w+\])?\)\s*\Z")
# None says anything to a user: two of TensorRT-RTX without a driver, in every build, and one of
# TensorRT where a second engine is opened beside the first.
_NOISE = (
    "Thread context has not been set",
    "getHardwareCompatibilityLevel() is unsupported",
    "differs from one already provided for an existing builder, runtime, or refitter",
)


@dataclass
class Log:
    """What a library said: severity by name, and text."""

    lines: list[tuple[str, str]] = field(default_factory=list)
    layers: str = ""  # the builder's own table of the finished engine
    interrupted: bool = False  # Ctrl-C came while TensorRT was telling something
    timed: Callable[[str], None] | None = None  # told the nodes whose kernels are timed next

    def keep(self, severity: str, text: str) -> None:
        """Keep errors and warnings, and the layers of the engine; tell what is timed."""
        if self.timed and severity == "VERBOSE" and (found := _TIMED.match(text)):
            with suppress(Exception):  # to tell it costs no build
                self.timed(found["nodes"])
        if _LAYERS.match(text):
            self.layers = text
        if severity in (*_ERRORS, "WARNING") and not any(noise in text for noise in _NOISE):
            self.lines.append((severity, text))

    @property
    def errors(self) -> list[str]:
        """Errors, the first one first."""
        return [text for severity, text in self.lines if severity in _ERRORS]

    @property
    def warnings(self) -> list[str]:
        """Warnings, each once."""
        return list(dict.fromkeys(t for severity, t in self.lines if severity == "WARNING"))


def logger(module: Any, log: Log) -> Any:
    """An ``ILogger`` of this library that writes to ``log``."""

    class Logger(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            try:
                log.keep(severity.name, text)
            except KeyboardInterrupt:  # must not cross TensorRT's own frames
                log.interrupted = True

    return Logger()
