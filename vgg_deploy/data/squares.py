"""Images of any size as squares of one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgg_deploy.data.crop import corner, resized_length

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How images of any size become squares of one: what comes before the preprocessing.

    The shorter side is resized to ``side``, then the centre is cut out; or, where the preprocessing
    does that, too, both sides are resized to ``side``.

    ``crop`` is how many pixels the preprocessing cuts out of the square then: the centre is placed
    so that they are those it would cut out of the whole image, where two crops may round apart.
    """

    side: int  # pixels
    channels: int
    cropped: bool = True
    crop: int | None = None  # pixels; None: all of the square


def squared(image: Pixels, geometry: Geometry) -> Pixels:
    """uint8 ``[H, W, C]`` as ``[side, side, C]``; resizing is bilinear and antialiased.

    Pillow rounds to whole values after either axis: it is up to 1 (of 255) from the exact resize.
    Only what the crop keeps is resized: all of a long strip would be gigabytes.
    """
    height, width, channels = image.shape
    side = geometry.side
    short = min(height, width)
    rows, top, bottom = _kept(height, short if geometry.cropped else height, geometry)
    columns, left, right = _kept(width, short if geometry.cropped else width, geometry)
    cut = np.ascontiguousarray(image[rows, columns])
    picture = Image.fromarray(cut[..., 0] if channels == 1 else cut).resize(
        (side, side), Image.Resampling.BILINEAR, box=(left, top, right, bottom)
    )
    return np.asarray(picture, np.uint8).reshape(side, side, channels)


def _kept(length: int, short: int, geometry: Geometry) -> tuple[slice, float, float]:
    """The pixels of an axis that the crop is made from, and where in them it starts and ends.

    ``short`` is the length that becomes ``geometry.side``. Pillow's box is float32: counted from
    the slice it stays exact however long the axis is.
    """
    side, crop = geometry.side, geometry.crop or geometry.side
    resized = resized_length(length, short, side)
    before = corner(resized, crop) - corner(side, crop)
    start, end = before * length / resized, (before + side) * length / resized
    reach = math.ceil(max(1.0, length / resized)) + 1  # of the filter, beyond the box
    first, last = max(0, int(start) - reach), min(length, math.ceil(end) + reach)
    return slice(first, last), start - first, end - first
