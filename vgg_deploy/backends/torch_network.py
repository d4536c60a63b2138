"""A torch network on a card: placed inputs, one output buffer, a stream, perhaps a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from vgg_deploy.backends.base import Array
from vgg_deploy.backends.networks import Network, quiet_compiler
from vgg_deploy.backends.session import Placed

if TYPE_CHECKING:
    import torch

Graph = Literal["off", "inside", "captured"]  # inside: torch.compile keeps its own
_WARM_UP = 3  # TorchScript profiles twice before it fuses; cuDNN searches in the first run


class Card(Protocol):
    """Where tensors go: a GPU, or the host in tests."""

    @property
    def device(self) -> str:
        """torch's name of it."""
        ...

    @property
    def stream(self) -> int:
        """The ``cudaStream_t`` of this session."""
        ...

    def active(self) -> AbstractContextManager[object]:
        """Within it, work is enqueued on the session's stream."""
        ...

    def wait(self) -> None:
        """Until the stream is done."""
        ...

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """A graph of what ``enqueue`` does; each call of the result replays it."""
        ...


class Cuda:
    """The current GPU, with a stream of its own."""

    device = "cuda"

    def __init__(self) -> None:
        import torch

        torch.backends.cudnn.benchmark = True
        self._stream = torch.cuda.Stream()

    @property
    def stream(self) -> int:
        """The ``cudaStream_t``."""
        return int(self._stream.cuda_stream)

    def active(self) -> AbstractContextManager[object]:
        """``torch.cuda.stream``."""
        import torch

        return torch.cuda.stream(self._stream)

    def wait(self) -> None:
        """``cudaStreamSynchronize``."""
        self._stream.synchronize()

    def capture(self, enqueue: Callable[[], None]) -> Callable[[], None]:
        """``torch.cuda.graph`` on the session's stream."""
        import torch

        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            enqueue()
        return graph.replay


@dataclass
class TorchNetwork:
    """What a session holds. ``specialize`` compiles ``network`` for one batch."""

    network: Network | None
    card: Card
    tf32: bool = False
    graph: Graph = "off"
    specialize: Callable[[Network, torch.Tensor], Network] | None = None
    compiled: dict[int, Network] = field(default_factory=dict)  # by batch size

    @property
    def stream(self) -> int:
        """The ``cudaStream_t`` of bound runs."""
        return self.card.stream

    @property
    def modes(self) -> Mapping[str, str]:
        """How it runs, for results."""
        graph = "off" if self.graph == "off" else "on"
        return {"cuda_graph": graph, "tf32": "on" if self.tf32 else "off"}

    def place(self, batch: Array, *, keep: bool) -> Placed:
        """Put a batch on the card, channels-last, and run until nothing is compiled any more."""
        import torch

        with self.card.active(), torch.inference_mode():
            images = torch.from_numpy(batch).to(self.card.device)
            images = images.contiguous(memory_format=torch.channels_last)
            network = self._for_batch(images)
            enqueue, output = self._warm(network, images)
            replay = enqueue
            if keep and self.graph == "captured":
                with _tf32(self.tf32):
                    replay = self.card.capture(enqueue)
        self.wait()

        def run() -> None:
            with self.card.active(), torch.inference_mode(), _tf32(self.tf32):
                replay()

        def read() -> Array:
            self.wait()
            logits: Array = output.cpu().numpy().copy()
            return logits

        return Placed(run, read)

    def wait(self) -> None:
        """Until the stream is done."""
        self.card.wait()

    def close(self) -> None:
        """Let go of the network and of what was compiled for it."""
        if self.network is not None:
            self.wait()
            self.network = None
            self.compiled.clear()

    def _for_batch(self, images: torch.Tensor) -> Network:
        assert self.network is not None, "closed"  # noqa: S101  DeviceSession checks before
        if self.specialize is None:
            return self.network
        size = len(images)
        if size not in self.compiled:
            with quiet_compiler(), _tf32(self.tf32):
                self.compiled[size] = self.specialize(self.network, images)
        return self.compiled[size]

    def _warm(
        self, network: Network, images: torch.Tensor
    ) -> tuple[Callable[[], None], torch.Tensor]:
        """A run into one buffer, which no later run of another batch overwrites."""
        import torch

        with quiet_compiler(), _tf32(self.tf32):
            output = torch.empty_like(network(images))

            def enqueue() -> None:
                output.copy_(network(images))

            for _ in range(_WARM_UP):
                enqueue()
        self.wait()
        return enqueue, output


@contextmanager
def _switched_on() -> Iterator[None]:
    """TF32 for what is enqueued inside; the switches belong to the process, so they go back."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = matmul
        torch.backends.cudnn.allow_tf32 = cudnn


def _tf32(on: bool) -> AbstractContextManager[None]:
    return _switched_on() if on else nullcontext()
