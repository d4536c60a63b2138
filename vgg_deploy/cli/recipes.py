"""``vgg-deploy recipes``."""

from __future__ import annotations

from vgg_deploy.cli.console import print_json, show
from vgg_deploy.cli.options import JsonOption


def recipes(as_json: JsonOption = False) -> None:
    """List the training recipes: what each sets, and what it is for.

    Example: vgg-deploy recipes --json
    """
    from dataclasses import asdict

    from vgg_deploy.report.recipe_tables import recipes_table
    from vgg_deploy.train.recipes import RECIPES

    rows = [asdict(recipe) for recipe in RECIPES.values()]
    if as_json:
        print_json(rows)
    else:
        show(recipes_table(rows))
