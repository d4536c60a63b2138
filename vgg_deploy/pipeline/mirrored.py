"""What is said where a recipe mirrors images of which nobody said that they may be."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from vgg_deploy.errors import and_more
from vgg_deploy.spec import NAMED_DATA
from vgg_deploy.train.options import TrainOptions

_MIRRORED = "images are mirrored left to right at random"
_SHOWN = 4  # classes
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")  # of snake_case and CamelCase, too
_SIDES = {"left", "right"}


def mirroring(options: TrainOptions, data: str, labels: Sequence[str]) -> str:
    """A line for people; empty where no image is mirrored, ``--flip`` was given, or data are ours.

    Classes that look as if mirroring changed what they are get a pointed one.
    """
    if options.flip is not None or not options.chosen.flip or data in NAMED_DATA:
        return ""
    characters = [label for label in labels if _is_character(label)]
    if len(characters) > 1:
        return _pointed("be letters or digits", characters)
    if sided := [label for label in labels if _tells_sides(label)]:
        return _pointed("tell left from right", sided)
    return f"{_MIRRORED} (--no-flip for letters, digits and the like)"


def _pointed(what: str, labels: Sequence[str]) -> str:
    named = and_more([repr(label) for label in labels], _SHOWN)
    return f"{_MIRRORED}, but classes seem to {what} ({named}): if so, use --no-flip"


def _is_character(label: str) -> bool:
    whole = unicodedata.normalize("NFC", label)  # file systems may store é as two
    return len(whole) == 1 and whole.isalnum()


def _tells_sides(label: str) -> bool:
    return not _SIDES.isdisjoint(word.lower() for word in _WORDS.findall(label))
