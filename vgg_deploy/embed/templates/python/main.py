"""Classify image files: python main.py photo.jpg ..."""

import sys

import numpy as np
from classifier import classify
from PIL import Image
from pixels import eight_bits
from upright import upright


def read_image(path: str) -> np.ndarray:
    """An image file as uint8 ``[H, W, C]``, the right way up."""
    image = upright(Image.open(path))
    if image.mode.startswith("I"):
        return eight_bits(np.asarray(image))
    if image.mode == "F":
        raise ValueError(f"{path} holds floating point values, whose range is not defined")
    if image.has_transparency_data:  # of an RGB or grey PNG it may be a single colour
        image = image.convert("LA" if image.mode in ("L", "LA") else "RGBA")
    elif image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return np.asarray(image)


def main(paths: list[str]) -> int:
    """Print the five best labels of each file."""
    if not paths:
        print("usage: python main.py IMAGE...", file=sys.stderr)
        return 2
    for path in paths:
        print(path)
        for label, score in classify(read_image(path)):
            print(f"{score:8.2%}  {label}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
