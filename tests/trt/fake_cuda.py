"""A CUDA driver without a GPU: memory in a dict, streams that run nothing before somebody waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.cuda import Gpu, out_of_memory
from vgg_deploy.errors import BackendNotAvailable

Work = Callable[[], None]
H100 = Gpu(
    name="NVIDIA H100", compute_capability="9.0", memory_bytes=80 << 30, cuda="13.0", driver="580"
)


@dataclass
class FakeDriver:
    """``Driver`` on the host. ``missing`` is what a machine without a driver says."""

    card: Gpu = H100
    total: int = 1 << 30
    missing: str = ""
    blocks: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    queues: dict[int, list[Work]] = field(default_factory=dict)
    graphs: dict[int, list[Work]] = field(default_factory=dict)
    capturing: list[Work] | None = None
    launches: int = 0
    captures: int = 0
    _next: int = 4096

    def gpu(self) -> Gpu:
        if self.missing:
            raise BackendNotAvailable(self.missing, "install a driver")
        return self.card

    def memory(self) -> tuple[int, int]:
        return self.total - sum(block.nbytes for block in self.blocks.values()), self.total

    def allocate(self, size: int) -> int:
        if size > self.memory()[0]:
            raise out_of_memory(f"{size:,} bytes", self)
        address = self._number()
        self.blocks[address] = np.zeros(size, np.uint8)
        return address

    def free(self, address: int) -> None:
        del self.blocks[address]  # a double free is a KeyError

    def upload(self, address: int, array: NDArray[Any], stream: int) -> None:
        assert array.flags.c_contiguous

        def copy() -> None:
            self.blocks[address][: array.nbytes] = array.reshape(-1).view(np.uint8)

        self.enqueue(stream, copy)

    def download(self, array: NDArray[Any], address: int, stream: int) -> None:
        def copy() -> None:
            array.reshape(-1).view(np.uint8)[:] = self.blocks[address][: array.nbytes]

        self.enqueue(stream, copy)

    def new_stream(self) -> int:
        stream = self._number()
        self.queues[stream] = []
        return stream

    def end_stream(self, stream: int) -> None:
        assert not self.queues.pop(stream), "a stream was destroyed with work in it"

    def wait(self, stream: int) -> None:
        assert self.capturing is None, "waiting inside a capture is an error in CUDA"
        work, self.queues[stream] = self.queues[stream], []
        for each in work:
            each()

    def capture(self, stream: int, enqueue: Callable[[], None]) -> int:
        assert stream in self.queues
        self.capturing = []
        try:
            enqueue()
        finally:
            captured, self.capturing = self.capturing, None
        graph = self._number()
        self.graphs[graph] = captured
        self.captures += 1
        return graph

    def launch(self, graph: int, stream: int) -> None:
        self.launches += 1
        self.queues[stream].extend(self.graphs[graph])

    def end_graph(self, graph: int) -> None:
        del self.graphs[graph]

    def enqueue(self, stream: int, work: Work) -> None:
        """For the fake runtime: into the stream, or into the graph that is being captured."""
        (self.queues[stream] if self.capturing is None else self.capturing).append(work)

    @property
    def left(self) -> int:
        """Whatever was not given back."""
        return len(self.blocks) + len(self.queues) + len(self.graphs)

    def _number(self) -> int:
        self._next += 4096
        return self._next
