"""The tables of ``vgg-deploy predict``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vgg_deploy.errors import counted
from vgg_deploy.report.quantities import percent
from vgg_deploy.report.table import Column, Table, simple_table

Classes = Sequence[tuple[str, float]]  # labels and probabilities, best first


def prediction_table(image: str, by: str, classes: Classes) -> Table:
    """The most probable classes of one image, best first."""
    columns = [Column(name="Class"), Column(name="Probability", align="right")]
    rows = [(label, percent(probability, 2)) for label, probability in classes]
    return simple_table(image, columns, rows, note=f"by {by}")


def predictions_table(images: Iterable[tuple[str, Classes]], by: str) -> Table:
    """A row per image: its most probable class and the one after it."""
    columns = [
        Column(name="Image", align="prose"),
        Column(name="Class"),
        Column(name="Probability", align="right"),
        Column(name="Second"),
        Column(name="Its probability", align="right"),
    ]
    rows = [(image, *_cells(classes, 0), *_cells(classes, 1)) for image, classes in images]
    table = simple_table(counted(len(rows), "image"), columns, rows, note=f"by {by}")
    return table.without_empty_columns()


def _cells(classes: Classes, place: int) -> tuple[str, str]:
    if place >= len(classes):
        return "", ""
    label, probability = classes[place]
    return label, percent(probability, 2)
