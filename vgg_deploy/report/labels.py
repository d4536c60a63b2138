"""Short names for the cells of the matrix, as long as needed to tell them apart."""

from __future__ import annotations

from collections.abc import Iterable

from vgg_deploy.results import Subject


def short_labels(subjects: Iterable[Subject]) -> dict[str, str]:
    """A label per ``Subject.id``: the backend; with precision, format or file if it needs them."""
    unique = list({s.id: s for s in subjects}.values())
    labels = {s.id: s.backend for s in unique}
    if len({s.precision for s in unique}) > 1:
        labels = {s.id: f"{s.backend} {s.precision}" for s in unique}
    if _ambiguous(labels):
        twice = _repeated(labels)
        labels |= {s.id: f"{labels[s.id]} {s.format}" for s in unique if labels[s.id] in twice}
    if _ambiguous(labels):
        labels = {s.id: s.id for s in unique}
    return labels


def _ambiguous(labels: dict[str, str]) -> bool:
    return len(set(labels.values())) < len(labels)


def _repeated(labels: dict[str, str]) -> set[str]:
    values = list(labels.values())
    return {v for v in values if values.count(v) > 1}
