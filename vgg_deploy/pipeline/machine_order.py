"""In which order a machine's backends are checked: a lent one may be gone in minutes.

First every backend that needs no minutes of its own in fp32 and fp16, network by network, so that
they can be compared early; then the other precisions and what builds engines by itself; what
compiles for minutes last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

Cell = tuple[str, str, str]  # Python, backend, precision of its engine (else "")

_EARLY = ("fp32", "fp16", "")
_VARIANTS = ("-tf32", "-bf16")  # of torch, which are rows of their own
_TIERS = {"ort-cuda": 1, "trt": 2, "ort-trt": 0}  # within a round; else 0
_SELF_BUILDING = ("ort-trt",)
_COMPILING = ("torch-compile", "aoti")
SLOW = (*_SELF_BUILDING, *_COMPILING)


def is_slow(backend: str) -> bool:
    """Whether it builds or compiles for minutes when it is opened."""
    return backend.startswith(SLOW)


def turns(
    usable: Mapping[str, Sequence[str]],
    networks: Sequence[str],
    precisions: Callable[[str, str], Sequence[str]],
) -> Iterator[tuple[str, list[Cell]]]:
    """A network and what runs on it next; each cell once per network.

    ``usable``: backends by Python. ``precisions`` of a Python's backend: one cell for each.
    """
    ranked = [
        (*_rank(backend, precision, at), network, (python, backend, precision))
        for python, backends in usable.items()
        for backend in backends
        for precision in precisions(python, backend)
        for at, network in enumerate(networks)
    ]
    ranked.sort(key=lambda row: row[:3])
    for (_, network), rows in groupby(ranked, key=lambda row: (row[0], row[3])):
        yield network, [row[4] for row in rows]


def _rank(backend: str, precision: str, network: int) -> tuple[int, int, int]:
    """Round, then network before tier in the first and tier before network in the others."""
    tier = next((tier for start, tier in _TIERS.items() if backend.startswith(start)), 0)
    if backend.startswith(_COMPILING):
        return 2, tier, network
    if backend in _SELF_BUILDING or backend.endswith(_VARIANTS) or precision not in _EARLY:
        return 1, tier, network
    return 0, network, tier
