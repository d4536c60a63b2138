"""``vgg-deploy selfcheck``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, show, watching
from vgg_deploy.cli.options import BundleArgument, JsonOption


def selfcheck(
    bundle: BundleArgument,
    results: Annotated[
        Path,
        typer.Option(
            help="What the app wrote: JSON as docs/golden.md tells.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Judge the outputs any app wrote for the golden vectors; exit 7 names the likely cause.

    Example: vgg-deploy selfcheck artifacts/fmnist --results out.json
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.golden import load_index
    from vgg_deploy.pipeline.selfcheck import selfcheck as judge
    from vgg_deploy.pipeline.selfcheck import selfcheck_error
    from vgg_deploy.report.selfcheck_tables import selfcheck_table, suspects_table

    opened = open_bundle(bundle)
    with watching() as watch:
        found = judge(opened, results, watch)
    if as_json:
        print_json(found)
    else:
        show(selfcheck_table(found, load_index(opened.golden_folder).tolerances[found.precision]))
        if found.suspects:
            show(suspects_table(found))
    if error := selfcheck_error(found):
        raise error
