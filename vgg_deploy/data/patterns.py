"""Images made by arithmetic: coloured, sharp, the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NOISE = 40  # grey levels
_FURTHEST = 256  # pixels that are looked through


def hard_to_divide(height: int, width: int, resize: int | None) -> tuple[int, int]:
    """A shape with both sides made longer by so little that a sloppy division of the shorter shows.

    ``resize`` is what the shorter side becomes before a centre crop: resize * side / side. A
    runtime that multiplies by the float32 reciprocal gets less for some sides, for 256 every
    eighth, and makes one pixel too few of them. Without a crop nothing is divided.
    """
    if resize is None:
        return height, width
    short = min(height, width)
    found = (more for more in range(_FURTHEST) if falls_short(short + more, resize))
    more = next(found, 0)
    return height + more, width + more


def falls_short(side: int, resize: int) -> bool:
    """Whether resize * side * (1 / side) is less than ``resize`` in float32."""
    return bool(np.float32(resize * side) * (np.float32(1) / np.float32(side)) < resize)


def scene(height: int, width: int, channels: int, *, seed: int = 0) -> NDArray[np.uint8]:
    """Colour gradients, a disc, stripes of one pixel and noise: uint8 ``[height, width, C]``.

    The channels differ, so that swapped ones show; no axis is symmetric, so that a flip or a
    transposed image shows; neighbouring pixels differ, so that a resize without antialias shows.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    y, x = np.mgrid[0:height, 0:width]
    down, right = 255 * (y + 1) // (height + 1), 255 * (x + 1) // (width + 1)
    planes = np.stack([right, 255 - down, (right + 3 * down) // 4], axis=2)[..., :channels]
    radius = max(1, min(height, width) // 4)
    disc = (y - height // 3) ** 2 + (x - width // 4) ** 2 <= radius**2
    planes[disc] = (230, 60, 20)[:channels]
    stripes = (x + y) % 2 == 0
    planes[stripes & (y > 2 * height // 3)] //= 3
    noise = random.integers(-_NOISE, _NOISE + 1, size=planes.shape)
    result: NDArray[np.uint8] = np.clip(planes + noise, 0, 255).astype(np.uint8)
    return result
