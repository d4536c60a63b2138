"""How near a timing comes to what the machine can do, layer by layer.

A layer cannot be faster than its multiply-adds at the machine's GEMM rate, nor than its weights and
maps at the machine's copy bandwidth: the roofline of Williams, Waterman and Patterson (2009). Both
ceilings are measured, so both can be beaten: a Winograd convolution needs fewer multiplications
than are counted, and weights that stay in a cache need no memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from vgg_deploy.artifact import Precision
from vgg_deploy.model.layers import Layer
from vgg_deploy.results import Ceiling

ELEMENT_BYTES: Mapping[Precision, int] = {
    "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1, "fp8": 1
}  # fmt: skip
Binds = Literal["arithmetic", "memory"]


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The least time of one layer for a whole batch, by either ceiling, in seconds."""

    name: str
    operations: float
    bytes: float  # weights once, maps in and out for every image
    arithmetic_s: float
    memory_s: float

    @property
    def seconds(self) -> float:
        """The larger of the two."""
        return max(self.arithmetic_s, self.memory_s)

    @property
    def binds(self) -> Binds:
        """What the layer waits for."""
        return "arithmetic" if self.arithmetic_s >= self.memory_s else "memory"

    @property
    def intensity(self) -> float:
        """Operations per byte."""
        return self.operations / self.bytes


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The least time of a whole network, and what most of it waits for."""

    bounds: tuple[Bound, ...]
    gemm: Ceiling
    copy: Ceiling

    @property
    def seconds(self) -> float:
        """Sum over the layers."""
        return sum(bound.seconds for bound in self.bounds)

    @property
    def binds(self) -> Binds:
        """What binds the larger part of the time."""
        waiting = sum(b.seconds for b in self.bounds if b.binds == "memory")
        return "memory" if waiting > self.seconds / 2 else "arithmetic"

    @property
    def memory_share(self) -> float:
        """Share of the least time in layers that wait for memory, 0..1."""
        return sum(b.seconds for b in self.bounds if b.binds == "memory") / self.seconds


def limit_of(
    layers: Sequence[Layer],
    batch: int,
    precision: Precision,
    device: str,
    ceilings: Sequence[Ceiling],
) -> Limit | None:
    """The least time for a batch; None where a ceiling was not measured.

    ``layers`` are all layers of the network in order, the input before the first one being as
    large as its shape says; only those with work of their own are bound: ReLU is fused.
    """
    here = [c for c in ceilings if c.device == device]
    gemms = [c for c in here if c.kind == "gemm" and c.precision == precision]
    copies = [c for c in here if c.kind == "copy"]
    if not gemms or not copies:
        return None
    gemm, copy = (max(found, key=lambda c: c.per_s) for found in (gemms, copies))
    each = ELEMENT_BYTES[precision]
    bounds = []
    for before, layer in zip((None, *layers), layers, strict=False):
        if layer.kind not in ("conv", "fc", "pool"):
            continue
        entering = prod(before.shape) if before else 0  # the image itself is small
        moved = each * (layer.params + batch * (entering + prod(layer.shape)))
        operations = 2.0 * layer.macs * batch
        bounds.append(
            Bound(
                name=layer.name,
                operations=operations,
                bytes=moved,
                arithmetic_s=operations / gemm.per_s,
                memory_s=moved / copy.per_s,
            )
        )
    return Limit(bounds=tuple(bounds), gemm=gemm, copy=copy)
