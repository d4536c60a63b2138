"""A short training, and what is told while it runs."""

from __future__ import annotations

import os
import signal

from vgg_deploy.pipeline.request import TrainRequest
from vgg_deploy.pipeline.watch import Silent
from vgg_deploy.train.options import TrainOptions

OPTIONS = TrainOptions(epochs=2, batch=32, device="cpu", precision="fp32", max_images=200)
SAMPLE = TrainRequest(
    arch="1x4-1x8", width=1.0, size=16, fc_width=32, data="sample", options=OPTIONS
)
TINY = ["--arch", "1x4-1x8", "--width", "1", "--size", "16", "--fc-width", "32"]


class Heard(Silent):
    """Keeps what is said; sends this process a signal after so many images."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.lines: list[str] = []
        self._left = stop_after

    def say(self, text: str) -> None:
        self.lines.append(text)

    def advance(self, done: int = 1) -> None:
        if self._left is not None:
            self._left -= done
            if self._left <= 0:
                os.kill(os.getpid(), signal.SIGTERM)
                self._left = None
