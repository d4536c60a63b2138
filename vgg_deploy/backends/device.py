"""What the backends of a GPU share: a session whose bound runs are enqueued on a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Array
from vgg_deploy.backends.session import HostSession, Placed, translated


class OnDevice(Protocol):
    """A network that lies on a GPU, with a stream of its own."""

    @property
    def stream(self) -> int:
        """The ``cudaStream_t`` of bound runs, as an integer."""
        ...

    @property
    def modes(self) -> Mapping[str, str]:
        """How it runs, for results."""
        ...

    def place(self, batch: Array, *, keep: bool) -> Placed:
        """Put a batch on the GPU; ``keep`` for bound runs, which may be captured as a graph."""
        ...

    def wait(self) -> None:
        """Until the stream is done."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class DeviceSession(HostSession):
    """Calls run at once; bound runs are enqueued, ``sync`` waits for them."""

    on_gpu = True

    def __init__(self, name: str, path: Path, artifact: Artifact, network: OnDevice) -> None:
        super().__init__(name, path, artifact, partial(network.place, keep=False))
        self._network = network

    def bind(self, batch: Array, /) -> Callable[[], None]:
        """Place the input and run until nothing is compiled, searched or captured any more."""
        self._require_open()
        given = self._copied(batch)
        self._bound = None  # frees the previous buffers first
        with translated(f"{self._name} could not run {self._path}", gpu=True):
            self._bound = self._network.place(given, keep=True)
        return self._bound.run

    def sync(self) -> None:
        """Wait for the stream."""
        self._require_open()
        with translated(f"{self._name} could not run {self._path}", gpu=True):
            self._network.wait()

    @property
    def stream(self) -> int:
        """The ``cudaStream_t`` that bound runs are enqueued on."""
        return self._network.stream

    @property
    def modes(self) -> Mapping[str, str]:
        """How it runs, for results."""
        return self._network.modes

    def close(self) -> None:
        """Let go of buffers, graph, stream and network; a second call does nothing."""
        if self._place is not None:
            super().close()
            self._network.close()
