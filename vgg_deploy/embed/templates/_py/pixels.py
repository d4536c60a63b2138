"""An image with the channels that a model takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LUMA = np.array((19595, 38470, 7471), np.uint32)  # ITU-R 601-2 in 16-bit fixed point


def eight_bits(samples: NDArray[np.integer]) -> NDArray[np.uint8]:
    """16-bit samples as 8-bit ones; ``ValueError`` outside 0 to 65535."""
    if samples.min() < 0 or samples.max() > 65535:
        raise ValueError("values outside 0..65535; give an image of 8 or 16 bits")
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """An image with the channels the model takes; what is transparent lies on black."""
    if image.dtype != np.uint8:
        raise ValueError(f"{image.dtype} pixels; scale to uint8 first (16 bit: divide by 257)")
    if image.ndim == 2:
        image = image[:, :, np.newaxis]
    if image.ndim != 3 or image.shape[2] not in (1, 2, 3, 4) or 0 in image.shape:
        raise ValueError(f"shape {image.shape}; give [H, W, C] with 1 to 4 channels")
    if image.shape[2] in (2, 4):
        alpha = image[:, :, -1:].astype(np.uint16)
        image = ((image[:, :, :-1] * alpha + 127) // 255).astype(np.uint8)
    if image.shape[2] == channels:
        return image
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    grey = (image.astype(np.uint32) @ _LUMA + 0x8000) >> 16
    return grey.astype(np.uint8)[:, :, np.newaxis]
