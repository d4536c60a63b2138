"""``vgg-deploy bench``."""

from __future__ import annotations

from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, show, watching
from vgg_deploy.cli.options import (
    BackendsOption,
    BatchesOption,
    BundleArgument,
    FormatsOption,
    JsonOption,
    positive,
)


def bench(
    bundle: BundleArgument,
    backends: BackendsOption = None,
    formats: FormatsOption = None,
    batches: BatchesOption = None,
    seconds: Annotated[float, typer.Option(help="Least measuring time per cell.")] = 3.0,
    percentile: Annotated[
        int, typer.Option(help="Measure long enough to quote it: 50, 90 or 99.")
    ] = 90,
    as_json: JsonOption = False,
) -> None:
    """Time the backends: latency, throughput, load time, first inference, memory, file size.

    Example: vgg-deploy bench artifacts/fmnist --backend ort-cpu --batch 1 --batch 8
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.pipeline.bench import BenchOptions, bench_bundle, bench_error
    from vgg_deploy.pipeline.cells import selection_of
    from vgg_deploy.report.bench_tables import bench_table, startup_table

    options = BenchOptions(
        selection=selection_of(backends, formats),
        batches=positive(batches or (1, 8), "batch"),
        seconds=seconds,
        percentile=percentile,
    )
    with watching() as watch:
        report = bench_bundle(open_bundle(bundle), options, watch)
    if as_json:
        print_json(report)
    else:
        show(bench_table(report), startup_table(report))
    if error := bench_error(report):
        raise error
