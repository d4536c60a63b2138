"""A torch network on a card: placed inputs, one output buffer, a stream, perhaps a CUDA graph."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from vgg_deploy.backends.base import Array
from vgg_deploy.backends.networks import Network
from vgg_deploy.backends.session import Placed
from vgg_deploy.inductor import compile_errors, compiling

if TYPE_CHECKING:
    import torch

Graph = Literal["off", "inside", "captured"]  # inside: torch.compile keeps its own
_COMPILERS = (
    "Triton needs gcc or clang, or $CC; AOTInductor g++ 11 or newer and CUDA's headers; or use "
    "torch-cuda, which compiles nothing"
)
_WARM_UP = 4  # TorchScript profiles twice before it fuses; cuDNN searches in the first run


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

    def release(self) -> None:
        """Give memory back that nothing uses any more."""
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

    def release(self) -> None:
        """torch keeps what was freed; to NVML it would be the next backend's."""
        import torch

        gc.collect()  # compiled code hangs together in cycles
        torch.cuda.empty_cache()


@dataclass
class TorchNetwork:
    """What a session holds. ``specialize`` compiles ``network`` for one batch."""

    network: Network | None
    card: Card
    name: str = "torch"
    tf32: bool = False
    graph: Graph = "off"
    channels_last: bool = True  # of the input; weights that lie otherwise are laid out every run
    specialize: Callable[[Network, torch.Tensor], Network] | None = None
    compiled: dict[int, Network] = field(default_factory=dict)  # by batch size
    ran: set[tuple[int, ...]] = field(default_factory=set)  # shapes that need no warm-up any more
    skipped: bool = False  # torch.compile made no graph of its own for some batch

    @property
    def stream(self) -> int:
        """The ``cudaStream_t`` of bound runs."""
        return self.card.stream

    @property
    def modes(self) -> Mapping[str, str]:
        """How it runs, for results."""
        graph = "off" if self.graph == "off" or self.skipped else "on"
        return {"cuda_graph": graph, "tf32": "on" if self.tf32 else "off"}

    def place(self, batch: Array, *, keep: bool) -> Placed:
        """Put a batch on the card, with nothing left to compile for its shape.

        Later calls of that shape are one run each, as end to end reports them; the first is not,
        so that verify sees the code that is timed.
        """
        import torch

        with self.card.active(), torch.inference_mode():
            images = torch.from_numpy(batch).to(self.card.device)
            if self.channels_last:
                images = images.contiguous(memory_format=torch.channels_last)
            enqueue, output = _into_buffer(self._for_batch(images), images)
            if keep or images.shape not in self.ran:
                self._warm(enqueue)
                self.ran.add(images.shape)
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
            logits: Array = output[0].cpu().numpy().copy()
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
            self.card.release()

    def _for_batch(self, images: torch.Tensor) -> Network:
        assert self.network is not None, "closed"  # noqa: S101  DeviceSession checks before
        if self.specialize is None:
            return self.network
        size = len(images)
        if size not in self.compiled:
            with self._compiling(), _tf32(self.tf32):
                self.compiled[size] = self.specialize(self.network, images)
        return self.compiled[size]

    @contextmanager
    def _compiling(self) -> Iterator[None]:
        with compiling(), compile_errors(self.name, _COMPILERS):
            yield

    def _warm(self, enqueue: Callable[[], None]) -> None:
        before = _graphs_skipped() if self.graph == "inside" else 0
        with self._compiling() if self.specialize else nullcontext(), _tf32(self.tf32):
            for _ in range(_WARM_UP):
                enqueue()
        self.wait()
        if self.graph == "inside":
            self.skipped = self.skipped or _graphs_skipped() > before


def _graphs_skipped() -> int:
    """How often inductor has compiled for a CUDA graph and then run without one."""
    from torch._dynamo.utils import counters

    return int(counters["inductor"]["cudagraph_skips"])


def _into_buffer(
    network: Network, images: torch.Tensor
) -> tuple[Callable[[], None], list[torch.Tensor]]:
    """A run, and the buffer that its first call makes: no run of another batch overwrites it."""
    import torch

    output: list[torch.Tensor] = []

    def enqueue() -> None:
        logits = network(images)
        if not output:
            output.append(torch.empty_like(logits))
        output[0].copy_(logits)

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
