"""Random numbers as a function of where a run is, so that none of their state has to be kept.

Every epoch's order and every step's dropout and augmentation come from a seed made of the run's
seed, the purpose and the position. A run that is resumed, on whatever number of processes,
draws what it would have drawn.
"""

from __future__ import annotations

import hashlib

import torch


def seed_of(seed: int, purpose: str, *position: int) -> int:
    """63 bits that depend on every argument."""
    text = f"{seed} {purpose} {' '.join(map(str, position))}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def epoch_order(count: int, seed: int, epoch: int) -> torch.Tensor:
    """A permutation of ``count`` images, the same on every process."""
    generator = torch.Generator().manual_seed(seed_of(seed, "order", epoch))
    return torch.randperm(count, generator=generator)
