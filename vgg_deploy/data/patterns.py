"""Images made by arithmetic: coloured, sharp, the same on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NOISE = 40  # grey levels


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
