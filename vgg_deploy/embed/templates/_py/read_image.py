"""Image files as pixels; it needs Pillow."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

_TURNS = {  # by EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """An image file as uint8 ``[H, W]`` or ``[H, W, C]``, the right way up.

    Raises ``ValueError`` for floating-point samples, samples beyond 16 bits and PostScript, and
    what Pillow raises for a file that it cannot read.
    """
    with Image.open(path) as image:
        if image.format == "EPS":
            raise ValueError("PostScript is a program, not an image")
        return _pixels(upright(image))


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):
        return _eight_bits(np.asarray(image))
    if image.mode == "F":
        raise ValueError("floating point samples, whose range is not defined")
    if image.has_transparency_data:  # of an RGB or grey PNG it may be a single colour
        image = image.convert("LA" if image.mode in ("L", "LA") else "RGBA")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return np.asarray(image)


def _eight_bits(samples: NDArray[np.integer]) -> NDArray[np.uint8]:
    if samples.min() < 0 or samples.max() > 65535:
        raise ValueError("values outside 0..65535; give an image of 8 or 16 bits")
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF says it is to be seen; as it is stored where that cannot be read.

    Pillow's ``exif_transpose`` writes EXIF anew, which fails for tags of another type than usual.
    """
    image.load()
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the pixels are whole, and only they matter
        return image
    return image if turn is None else image.transpose(turn)
