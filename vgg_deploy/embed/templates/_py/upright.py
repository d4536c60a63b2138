"""Photos the way they were held."""

from __future__ import annotations

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
