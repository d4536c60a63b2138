"""The table of ``vgg-deploy predict``."""

from __future__ import annotations

from collections.abc import Sequence

from vgg_deploy.report.quantities import percent
from vgg_deploy.report.table import Column, Table, simple_table


def prediction_table(image: str, by: str, classes: Sequence[tuple[str, float]]) -> Table:
    """The most probable classes of one image, best first."""
    columns = [Column(name="Class"), Column(name="Probability", align="right")]
    rows = [(label, percent(probability, 2)) for label, probability in classes]
    return simple_table(image, columns, rows, note=f"by {by}")
