"""The two protocols that verify, bench and predict know a backend by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.artifact import Artifact, Format, Precision, TensorSpec

Array = NDArray[Any]
_CAMERA = (480, 640)  # height, width
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Missing:
    """Why a backend cannot run here, and what to do about it."""

    reason: str
    remedy: str


@runtime_checkable
class Session(Protocol):
    """An opened artifact: one tensor in, one tensor out, both with the batch first."""

    def __call__(self, batch: Array, /) -> Array:
        """Host to host: input of the artifact's shape and dtype, logits ``[N, classes]``."""
        ...

    def bind(self, batch: Array, /) -> Callable[[], None]:
        """Place the input once; each call of the result enqueues one run."""
        ...

    def sync(self) -> None:
        """Wait for what was enqueued; nothing to do where runs are synchronous."""
        ...


@runtime_checkable
class Answering(Protocol):
    """What a session also has when it gives back what a bound run computed."""

    def output(self) -> Array:
        """Logits ``[N, classes]`` of the last bound run, in an array of the caller's own."""
        ...


@runtime_checkable
class OnStream(Protocol):
    """What a session on a GPU also has, so that CUDA events can time it on its own stream."""

    @property
    def stream(self) -> int:
        """The ``cudaStream_t`` that bound runs are enqueued on, as an integer."""
        ...


@runtime_checkable
class Described(Protocol):
    """What a session also has when it can be run in more than one way."""

    @property
    def modes(self) -> Mapping[str, str]:
        """How it runs, as results record it: ``{"cuda_graph": "on", "tf32": "off"}``."""
        ...


class Backend(Protocol):
    """Something that can open an artifact."""

    @property
    def name(self) -> str:
        """Name on the command line."""
        ...

    @property
    def formats(self) -> frozenset[Format]:
        """What it opens."""
        ...

    @property
    def device(self) -> Device:
        """Where it computes."""
        ...

    def probe(self) -> Missing | None:
        """None when usable here, or reason and remedy."""
        ...

    def open(self, artifact: Artifact, root: Path, /) -> AbstractContextManager[Session]:
        """Open ``root / artifact.path``; the session is closed with the context."""
        ...


@runtime_checkable
class Recasting(Protocol):
    """A backend that computes an fp32 file in a precision of its own."""

    @property
    def precision(self) -> Precision:
        """The precision it computes in, whatever the file's is."""
        ...

    @property
    def variant_of(self) -> str | None:
        """The backend that differs from it in nothing but precision; None for that one itself."""
        ...


@runtime_checkable
class Selective(Protocol):
    """A backend that does not open every artifact of its formats."""

    def refuses(self, artifact: Artifact, /) -> Missing | None:
        """None for an artifact it can open; else why not, and what to use instead."""
        ...


def example_shape(spec: TensorSpec, batch: int) -> tuple[int, ...]:
    """A shape that an input takes: free sides of an image become a camera's 480×640."""
    usual = (batch, *_CAMERA, 0)
    pairs = zip(spec.shape, usual, strict=True)
    return (batch, *[have if isinstance(have, int) else want for have, want in pairs][1:])


def as_input(batch: Array, artifact: Artifact) -> Array:
    """``batch`` as the contiguous array the artifact takes; ``ValueError`` for another shape."""
    want = artifact.input.shape
    fits = len(want) == batch.ndim and all(
        isinstance(size, str) or size == have for size, have in zip(want, batch.shape, strict=True)
    )
    if not fits or batch.shape[0] == 0:
        raise ValueError(f"input of shape {batch.shape} for {artifact.input.name} {want}")
    return np.ascontiguousarray(batch, dtype=np.dtype(artifact.input.dtype))
