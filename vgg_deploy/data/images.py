"""Image files as arrays, and grey and RGB into each other.

What is done with what Pillow reads: EXIF orientation is applied; of an animation the first
frame is taken; 16-bit grey is divided by 257; palettes, CMYK and YCbCr become RGB; transparent
pixels are laid over black. Floating point images have no defined range and are refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from vgg_deploy.errors import RefusedInput, os_errors, require_file

Pixels = NDArray[np.uint8]

MAX_PIXELS = 100_000_000  # more is refused before decoding: 300 MB as RGB
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B")
# ITU-R 601-2 luma in 16-bit fixed point, as Pillow's convert("L")
_LUMA = np.array((19595, 38470, 7471), np.uint32)
_TURNS = {  # by EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: Path, channels: int) -> Pixels:
    """An image file as uint8 ``[1, H, W, channels]``; 1 channel is grey, 3 are RGB.

    Raises ``RefusedInput`` for a file that is no image, is damaged, or is too large.
    """
    return to_channels(read_as_stored(path)[np.newaxis], channels)


def read_as_stored(path: Path) -> Pixels:
    """An image file as uint8 ``[H, W, 1]`` where it is grey, else ``[H, W, 3]``."""
    with _opened(path) as image:
        try:
            image.load()
            oriented = _upright(image)
        except Exception as error:
            raise _no_image(path, "is a truncated or damaged image") from error
        return _pixels(path, oriented)


def require_image(path: Path) -> None:
    """Refuse by its header what is no image or is too large; nothing is decoded."""
    with _opened(path):
        pass


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    require_file(path, "image")
    with os_errors(f"read {path}"):
        content = path.open("rb")
    with content, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken EXIF, odd palettes: nothing a user can act on
        try:
            image = Image.open(content)
            size = image.size
        except Image.DecompressionBombError as error:
            raise _too_large(path, "far more") from error
        except Exception as error:  # a decoder fed with rubbish raises anything
            raise _no_image(path, "is not an image that Pillow can read") from error
        if image.format == "EPS":
            raise _no_image(path, "is PostScript, which is a program")
        if size[0] * size[1] > MAX_PIXELS:
            raise _too_large(path, f"{size[0]}×{size[1]}")
        yield image


def _upright(image: Image.Image) -> Image.Image:
    """The image as its EXIF says it is to be seen; as it is stored where that cannot be read.

    Pillow's ``exif_transpose`` writes EXIF anew, which fails for tags of another type than usual.
    """
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the pixels are whole, and only they matter
        return image
    return image if turn is None else image.transpose(turn)


def to_channels(images: Pixels, channels: int) -> Pixels:
    """uint8 ``[N, H, W, 1 or 3]`` with the channels asked for; RGB becomes grey by its luma."""
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[3] not in (1, 3):
        raise RefusedInput(
            f"images of type {images.dtype} and shape {list(images.shape)}",
            "give uint8 images of shape [N, H, W, C] with 1 or 3 channels",
        )
    if channels not in (1, 3):
        raise RefusedInput(f"{channels} channels are not supported", "use 1 (grey) or 3 (RGB)")
    if images.shape[3] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=3)
    grey = (images.astype(np.uint32) @ _LUMA + 0x8000) >> 16
    return grey.astype(np.uint8)[..., np.newaxis]


def _pixels(path: Path, image: Image.Image) -> Pixels:
    """A decoded image as uint8 ``[H, W, 1]`` where it is grey, else ``[H, W, 3]``."""
    if image.mode == "F":
        raise _no_image(path, "holds floating point values, whose range is not defined")
    if image.mode.startswith("I"):
        return _from_16_bit(path, np.asarray(image))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        flat = Image.alpha_composite(black, layer).convert("RGB")
        return np.asarray(flat.convert("L") if image.mode in _GREY_MODES else flat).reshape(
            image.height, image.width, -1
        )
    flat = image.convert("L" if image.mode in _GREY_MODES else "RGB")
    return np.asarray(flat).reshape(image.height, image.width, -1)


def _from_16_bit(path: Path, values: NDArray[np.generic]) -> Pixels:
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 65_535:
        raise _no_image(path, "holds values outside 0..65535")
    return ((wide + 128) // 257).astype(np.uint8)[..., np.newaxis]


def _no_image(path: Path, problem: str) -> RefusedInput:
    return RefusedInput(f"{path} {problem}", "give an 8-bit or 16-bit PNG, JPEG, WebP or the like")


def _too_large(path: Path, size: str) -> RefusedInput:
    return RefusedInput(
        f"{path} unpacks to {size} pixels, the limit is {MAX_PIXELS:,}",
        "scale the image down first",
    )
