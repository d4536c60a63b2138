"""``vgg-deploy choose``."""

from __future__ import annotations

from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, show, watching
from vgg_deploy.cli.options import BundleArgument, JsonOption


def choose(
    bundle: BundleArgument,
    latency_ms: Annotated[
        float | None, typer.Option(help="Most milliseconds for one run of a batch.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Batch size.")] = 1,
    percentile: Annotated[int, typer.Option(help="Of the latency: 50, 90, 95 or 99.")] = 90,
    max_top1_drop: Annotated[
        float | None, typer.Option(help="Most points of top-1 accuracy that may be lost.")
    ] = None,
    max_mb: Annotated[float | None, typer.Option(help="Largest file, in 10⁶ bytes.")] = None,
    unsettled: Annotated[
        bool, typer.Option("--unsettled", help="Also take timings that break a rule.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Say which file in which backend to deploy, from stored results; exit 1 if none fits.

    Example: vgg-deploy choose artifacts/fmnist --latency-ms 50 --max-top1-drop 0.5
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.pipeline.choose import ChooseOptions, choice_error
    from vgg_deploy.pipeline.choose import choose as chosen
    from vgg_deploy.report.choice_tables import best_table, out_table

    options = ChooseOptions(
        latency_ms=latency_ms, batch=batch, percentile=percentile, max_top1_drop=max_top1_drop,
        max_mb=max_mb, unsettled=unsettled,
    )  # fmt: skip
    with watching() as watch:
        choice = chosen(open_bundle(bundle), options, watch)
    if as_json:
        print_json(choice)
    else:
        show(*([best_table(choice.best, percentile, batch)] if choice.best else []),
             *([out_table(choice.out, percentile)] if choice.out else []))  # fmt: skip
    if error := choice_error(choice):
        raise error
