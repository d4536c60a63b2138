"""The table of ``vgg-deploy recipes``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vgg_deploy.report.table import Column, Table, simple_table


def recipes_table(recipes: Sequence[Mapping[str, object]]) -> Table:
    """One column per recipe, one row per setting."""
    names = [str(recipe["name"]) for recipe in recipes]
    columns = [Column(name="Setting"), *(Column(name=name) for name in names)]
    settings = [key for key in recipes[0] if key != "name"]
    rows = [
        (key.replace("_", " "), *(_text(recipe[key]) for recipe in recipes)) for key in settings
    ]
    note = "SGD with one fused kernel; momentum is Nesterov's; shares of all steps or of a side."
    return simple_table("Training recipes", columns, rows, note=note)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "–"
    if isinstance(value, float):
        return f"{value:g}" if value else "–"
    return str(value)
