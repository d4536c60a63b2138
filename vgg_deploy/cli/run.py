"""``vgg-deploy run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, remark, show, watching
from vgg_deploy.cli.options import JsonOption, given_path


def run(
    preset: Annotated[
        str, typer.Option(help="fashion-mnist, or quick for a toy that takes a minute.")
    ] = "fashion-mnist",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder of the bundle; default: below artifacts/.",
            metavar="<path>",
            parser=given_path,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train, export, verify, bench and report in one go, reusing what is still valid.

    Example: vgg-deploy run --preset fashion-mnist
    """
    from vgg_deploy.pipeline.run import require_good, run_preset
    from vgg_deploy.report.bench_tables import bench_table
    from vgg_deploy.report.tables import verify_table
    from vgg_deploy.stored import document

    with watching() as watch:
        outcome = run_preset(preset, out, watch)
    root = outcome.bundle.root
    if as_json:
        print_json(
            {
                "bundle": str(root),
                "verify": document(outcome.verified, root),
                "bench": document(outcome.timed, root) if outcome.timed else None,
                "report": str(outcome.page),
            }
        )
    else:
        tables = [verify_table(outcome.verified)]
        show(*tables, *([bench_table(outcome.timed)] if outcome.timed else []))
        remark(f"the page: {outcome.page}")
    require_good(outcome)
