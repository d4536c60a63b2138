"""What a backend is verified with: real images, seeded noise, and the edges 0 and 255."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.data.images import to_channels
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.spec import Preprocessing

NOISE_IMAGES = 4


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Preprocessed inputs ``[N, C, S, S]`` float32 and what each of them is."""

    batch: NDArray[np.float32]
    names: tuple[str, ...]
    counts: Mapping[str, int]
    source: str


def make_inputs(
    images: NDArray[np.uint8],
    source: str,
    preprocessing: Preprocessing,
    *,
    count: int,
    seed: int,
) -> Inputs:
    """``count`` images drawn from ``images`` ``[N, H, W, C]``, then noise, all 0 and all 255."""
    random = np.random.default_rng(seed)
    chosen = np.sort(random.choice(len(images), size=min(count, len(images)), replace=False))
    real = to_channels(images[chosen], preprocessing.channels)
    side = (preprocessing.resize or preprocessing.size,) * 2
    noise = random.integers(
        0, 256, size=(NOISE_IMAGES, *side, preprocessing.channels), dtype=np.uint8
    )
    edges = np.zeros((2, *side, preprocessing.channels), dtype=np.uint8)
    edges[1] = 255
    parts = [preprocess(part, preprocessing) for part in (real, noise, edges)]
    names = [f"{source} #{index}" for index in chosen]
    names += [f"noise {index}" for index in range(NOISE_IMAGES)] + ["all 0", "all 255"]
    return Inputs(
        batch=np.concatenate(parts),
        names=tuple(names),
        counts={"real": len(real), "noise": NOISE_IMAGES, "edge": 2},
        source=source,
    )
