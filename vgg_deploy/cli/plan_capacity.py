"""``vgg-deploy plan-capacity``."""

from __future__ import annotations

from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, show, watching
from vgg_deploy.cli.options import BundleArgument, JsonOption, TimedBackendsOption


def plan_capacity(
    bundle: BundleArgument,
    qps: Annotated[float, typer.Option(help="Images per second, all replicas together.")],
    p99_ms: Annotated[float, typer.Option(help="Longest p99 from arrival to answer.")],
    backends: TimedBackendsOption = None,
    price: Annotated[
        float | None, typer.Option(help="Of one replica per hour, in any currency.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated traffic.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Replicas for a load, by simulating queues and batches on the latencies that bench measured.

    Example: vgg-deploy plan-capacity artifacts/fmnist --qps 50000 --p99-ms 20
    """
    from vgg_deploy.bench.capacity import CapacityOptions
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.pipeline.capacity import plan_capacity as make_plan
    from vgg_deploy.pipeline.cells import selection_of
    from vgg_deploy.report.capacity_tables import capacity_tables

    options = CapacityOptions(qps=qps, p99_ms=p99_ms, price_per_hour=price, seed=seed)
    wanted = selection_of(backends, None).backends
    with watching() as watch:
        report = make_plan(open_bundle(bundle), options, wanted, watch)
    if as_json:
        print_json(report)
    else:
        show(*capacity_tables(report))
