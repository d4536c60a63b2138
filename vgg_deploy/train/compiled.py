"""The network as ``torch.compile`` makes it: passes over its maps become one kernel."""

from __future__ import annotations

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
    torch's profiler their names, which has to be known before they are made.
    """

    def __init__(self, network: nn.Module, *, profiled: bool = False) -> None:
        super().__init__()
        self.network = network
        options = for_inductor() | ({"cpp.enable_kernel_profile": True} if profiled else {})
        self._compiled = torch.compile(self._run, fullgraph=True, dynamic=False, options=options)
        self._known: set[tuple[torch.Size, bool]] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits ``[N, classes]`` of float32 ``[N, C, S, S]``.

        ``BackendNotAvailable`` where what is called to compile fails.
        """
        kind = (images.shape, torch.is_grad_enabled())
        if kind in self._known:
            known: torch.Tensor = self._compiled(images)
            return known
        with compiling(), compile_errors("training", _EAGER):
            logits: torch.Tensor = self._compiled(images)
        self._known.add(kind)
        return logits

    def _run(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits


def compiled(network: nn.Module, *, profiled: bool = False) -> CompiledNetwork:
    """Compiled when it first sees images; ``BackendNotAvailable`` without a compiler."""
    if found := lacking():
        reason, remedy = found
        raise BackendNotAvailable(f"--compile: {reason}", f"{remedy}; or {_EAGER}")
    return CompiledNetwork(network, profiled=profiled)
