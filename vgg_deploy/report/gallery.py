"""The image on which each backend was furthest from the reference."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vgg_deploy.report.judged import worst_first
from vgg_deploy.report.quantities import NOT_FINITE, significant
from vgg_deploy.results import Comparison

_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One image and what was said about it."""

    png: str  # base64; empty where there is none to show
    name: str
    lines: tuple[str, ...]
    description: str


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Pictures with a title."""

    name: str  # a word for ids
    title: str
    caption: str
    pictures: tuple[Picture, ...]


def worst_images(rows: Sequence[Comparison]) -> Gallery | None:
    """The worst image of each comparison, the worst comparison first; None without any."""
    by_image: dict[tuple[str, str, str, str], list[Comparison]] = {}
    for row in worst_first(rows):
        if worst := row.worst:
            key = (worst.name, worst.png, worst.expected, worst.found)
            by_image.setdefault(key, []).append(row)
    if not by_image:
        return None
    return Gallery(
        name="worst",
        title="Worst images",
        caption="Where each backend was furthest from the reference, and what both make of it.",
        pictures=tuple(map(_picture, by_image.values())),
    )


def _picture(rows: Sequence[Comparison]) -> Picture:
    """One image, and all backends that are furthest from the reference on it."""
    worst = rows[0].worst
    assert worst is not None  # noqa: S101 - by construction
    errors = [r.worst.rel_l2 for r in rows if r.worst and r.worst.rel_l2 is not None]
    ends = dict.fromkeys(significant(end(errors)) for end in (min, max) if errors)
    far = " to ".join(ends) or NOT_FINITE
    lines = (
        ", ".join(dict.fromkeys(f"{r.subject.backend} {r.subject.precision}" for r in rows)),
        f"error {far}",
        f"reference: {worst.expected}",
        f"found: {worst.found}",
    )
    return Picture(
        png=worst.png if _BASE64.fullmatch(worst.png) else "",
        name=worst.name,
        lines=lines,
        description=f"{worst.name}: the reference says {worst.expected}, found {worst.found}",
    )
