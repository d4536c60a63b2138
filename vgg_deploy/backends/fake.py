"""A backend without a library: what it computes, how long it takes and how it breaks is planned.

It stands beside the real ones, passes the same contract, and lets verify and bench be tested
against every way in which a backend can be wrong.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from vgg_deploy.artifact import FORMATS, Artifact, Format
from vgg_deploy.backends.base import Array, Device, Missing, Session
from vgg_deploy.backends.session import Place, Placed, opened
from vgg_deploy.errors import unknown_choice
from vgg_deploy.files import sha256_of

Fault = Literal["open", "run", "crash", "nan", "shape", "constant", "unsteady", "stale"]


@dataclass(frozen=True)
class FakeBackend:
    """Logits are a fixed projection of the input, plus what is planted.

    ``noise`` is relative to the logits; ``delay_s`` is slept in every run; ``fault`` is the one
    way in which it breaks; ``strict`` refuses a file that is not the artifact's, by digest.

    "stale" breaks repeated runs only, as calls are none: they answer as if zeros had been placed.
    """

    name: str = "fake"
    formats: frozenset[Format] = field(default=frozenset(FORMATS))
    device: Device = "cpu"
    missing: Missing | None = None
    noise: float = 0.0
    delay_s: float = 0.0
    fault: Fault | None = None
    strict: bool = False

    def probe(self) -> Missing | None:
        """What was planned."""
        return self.missing

    def open(self, artifact: Artifact, root: Path, /) -> AbstractContextManager[Session]:
        """A session, unless the plan or a strict look at the file says no."""
        return opened(self, artifact, root, lambda path: self._load(artifact, path))

    def _load(self, artifact: Artifact, path: Path) -> Place:
        if self.fault == "open":
            raise RuntimeError("planted: cannot open")
        if self.strict and sha256_of(path) != artifact.sha256:
            raise RuntimeError("not a file the fake backend can read")
        classes = int(artifact.output.shape[1])
        generator = np.random.default_rng()

        def place(batch: Array) -> Placed:
            weights = weights_for(batch, classes)
            last: list[Array] = []

            def run() -> None:
                if self.delay_s:
                    time.sleep(self.delay_s)
                stale = self.fault == "stale" and last
                given = np.zeros_like(batch) if stale else batch
                last[:] = (self._logits(given, weights, generator),)

            def read() -> Array:
                copied: Array = last[0].copy()
                return copied

            return Placed(run, read)

        return place

    def _logits(self, batch: Array, weights: Array, unseeded: np.random.Generator) -> Array:
        if self.fault == "run":
            raise RuntimeError("planted: cannot run")
        if self.fault == "crash":
            os._exit(70)
        logits = project(batch, weights)
        if self.noise:
            generator = np.random.default_rng(1)
            logits *= 1 + self.noise * generator.standard_normal(logits.shape)
        if self.fault == "nan":
            logits[0, 0] = np.nan
        if self.fault == "constant":
            logits[:] = 1
        if self.fault == "unsteady":
            logits += unseeded.standard_normal(logits.shape)
        return (logits[:, 1:] if self.fault == "shape" else logits).astype(np.float32)


def weights_for(batch: Array, classes: int) -> Array:
    """The fake's weights ``[C·H·W, classes]``, float64."""
    inputs = batch[0].size
    weights: Array = np.random.default_rng(0).standard_normal((inputs, classes)) / inputs**0.5
    return weights


def project(batch: Array, weights: Array) -> Array:
    """Float64 logits ``[N, classes]``: the fake's exact result."""
    # One product per image: BLAS may round a row differently in a batch of another size.
    rows = [image.reshape(1, -1).astype(np.float64) @ weights for image in batch]
    logits: Array = np.concatenate(rows)
    return logits


_PLAIN = FakeBackend()
FAKES: Mapping[str, FakeBackend] = {
    backend.name: backend
    for backend in (
        _PLAIN,
        replace(_PLAIN, name="fake-slow", delay_s=60.0),
        replace(_PLAIN, name="fake-open", fault="open"),
        replace(_PLAIN, name="fake-run", fault="run"),
        replace(_PLAIN, name="fake-crash", fault="crash"),
        replace(_PLAIN, name="fake-stale", fault="stale"),
        replace(_PLAIN, name="fake-missing", missing=Missing("no library", "install one")),
    )
}


def get_fake(name: str) -> FakeBackend:
    """The planned backend of that name, for processes that are told their backend by a name."""
    if name not in FAKES:
        raise unknown_choice("fake backend", name, FAKES)
    return FAKES[name]
