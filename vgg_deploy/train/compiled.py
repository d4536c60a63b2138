"""The network as ``torch.compile`` makes it: passes over its maps become one kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from vgg_deploy.compiler import for_inductor, lacking
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.inductor import compile_errors, compiling

_EAGER = "train without --compile"


class CompiledNetwork(nn.Module):
    """A network whose forward and backward pass are compiled, once for every shape it meets.

    Same parameters, gradients within rounding. A graph that cannot be compiled as a whole is an
    error: dynamo would run it eager without a word. With ``profiled`` its kernels for the CPU tell
    torch's profiler their names, which has to be known before they are made. With ``graphs`` a GPU
    replays each pass as one CUDA graph: gradients lie in memory that the next pass writes again.
    """

    def __init__(self, network: nn.Module, *, profiled: bool = False, graphs: bool = False) -> None:
        super().__init__()
        self.network = network
        options = for_inductor() | ({"cpp.enable_kernel_profile": True} if profiled else {})
        options |= {"triton.cudagraphs": True} if graphs else {}
        self._compiled = torch.compile(self._run, fullgraph=True, dynamic=False, options=options)
        self._known: set[tuple[torch.Size, bool]] = set()
        self._known_backward: set[torch.Size] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, classes]`` of float32 ``[N, C, S, S]``.

        ``BackendNotAvailable`` where what is called to compile fails.
        """
        kind = (images.shape, torch.is_grad_enabled())
        if kind in self._known:
            known: torch.Tensor = self._compiled(images)
            return known
        with _compiling():
            logits: torch.Tensor = self._compiled(images)
        self._known.add(kind)
        return logits

    def backward_of(self, shape: torch.Size) -> AbstractContextManager[None]:
        """Around the backward pass of images of a shape: the first one compiles its kernels."""
        return nullcontext() if shape in self._known_backward else self._first_backward(shape)

    @contextmanager
    def _first_backward(self, shape: torch.Size) -> Iterator[None]:
        with _compiling():
            yield
        self._known_backward.add(shape)

    def _run(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits


def compiled(
    network: nn.Module, *, profiled: bool = False, graphs: bool = False
) -> CompiledNetwork:
    """Compiled when it first sees images; ``BackendNotAvailable`` without a compiler."""
    if found := lacking():
        reason, remedy = found
        raise BackendNotAvailable(f"--compile: {reason}", f"{remedy}; or {_EAGER}")
    return CompiledNetwork(network, profiled=profiled, graphs=graphs)


def backward_of(network: nn.Module, shape: torch.Size) -> AbstractContextManager[None]:
    """Around a backward pass: what compiles in it fails as in the forward pass."""
    network = getattr(network, "module", network)  # below DistributedDataParallel
    return network.backward_of(shape) if isinstance(network, CompiledNetwork) else nullcontext()


@contextmanager
def _compiling() -> Iterator[None]:
    with compiling(), compile_errors("training", _EAGER, shrinks=True):
        yield
