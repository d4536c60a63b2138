"""Images of any size as squares of one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How images of any size become squares of one: what comes before the preprocessing.

    The shorter side is resized to ``side``, then the centre is cut out; or, where the preprocessing
    does that, too, both sides are resized to ``side``.
    """

    side: int  # pixels
    channels: int
    cropped: bool = True


def squared(image: Pixels, geometry: Geometry) -> Pixels:
    """uint8 ``[H, W, C]`` as ``[side, side, C]``; resizing is bilinear and antialiased.

    Only what the crop keeps is resized: all of a long strip would be gigabytes.
    """
    height, width, channels = image.shape
    side = geometry.side
    short = min(height, width)
    rows, top, bottom = _kept(height, short if geometry.cropped else height, side)
    columns, left, right = _kept(width, short if geometry.cropped else width, side)
    cut = np.ascontiguousarray(image[rows, columns])
    picture = Image.fromarray(cut[..., 0] if channels == 1 else cut).resize(
        (side, side), Image.Resampling.BILINEAR, box=(left, top, right, bottom)
    )
    return np.asarray(picture, np.uint8).reshape(side, side, channels)


def _kept(length: int, short: int, side: int) -> tuple[slice, float, float]:
    """The pixels of an axis that the crop is made from, and where in them it starts and ends.

    ``short`` is the length that becomes ``side``. Pillow's box is float32: counted from the slice
    it stays exact however long the axis is.
    """
    resized = max(side, round(length * (side / short)))
    before = (resized - side) // 2
    start, end = before * length / resized, (before + side) * length / resized
    reach = math.ceil(max(1.0, length / resized)) + 1  # of the filter, beyond the box
    first, last = max(0, int(start) - reach), min(length, math.ceil(end) + reach)
    return slice(first, last), start - first, end - first
