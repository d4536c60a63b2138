"""Where a centre crop lies in a resized image: torchvision's rounding, for all that see images.

The graph of an embedded file repeats it in ``export.baked``.
"""

from __future__ import annotations


def resized_length(length: int, short: int, resize: int) -> int:
    """What an axis becomes when the shorter side, ``short``, becomes ``resize``: cut, not rounded.

    torchvision's ``Resize``; never less than ``resize``.
    """
    return int(resize * length / short)


def corner(length: int, size: int) -> int:
    """Where in an axis the centre ``size`` pixels begin: rounded, halves to even.

    torchvision's ``CenterCrop``.
    """
    return round((length - size) / 2.0)
