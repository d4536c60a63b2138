"""``vgg-deploy bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vgg_deploy.cli.console import print_json, settle, show, watching
from vgg_deploy.cli.options import (
    BackendsOption,
    BundleArgument,
    FailIfOption,
    JsonOption,
    OnlyFormatsOption,
    OnlyPrecisionsOption,
    StoreOption,
    positive,
    refuse_given,
)

if TYPE_CHECKING:
    from vgg_deploy.pipeline.contest import CompareOptions

_MEANS_NOTHING = "means nothing together with --compare"
# Options of timings that a comparison has no use for, and what to do instead.
_NOT_WITH_COMPARE = {
    "fail_if": "bench both runs and use vgg-deploy diff --fail-if, or leave it out",
    "backends": "name the backends with --compare, or leave it out",
    "formats": "name the file, as in --compare ort-cpu:model.int8.onnx, or leave it out",
    "precisions": "name the file, as in --compare ort-cpu:model.int8.onnx, or leave it out",
    "seconds": "use --blocks for a longer comparison, or leave it out",
    "percentile": "medians are compared; leave it out",
    "limits": "limits are measured without --compare only; leave it out",
    "cuda_graph": "backends are compared as they run by default; leave it out",
}


def bench(
    context: typer.Context,
    bundle: BundleArgument,
    backends: BackendsOption = None,
    formats: OnlyFormatsOption = None,
    precisions: OnlyPrecisionsOption = None,
    batches: Annotated[
        list[int] | None,
        typer.Option("--batch", help="Batch size; may be repeated. Default: 1, 8; --compare: 1."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="Least measuring time per cell, in seconds.")
    ] = 3.0,
    percentile: Annotated[
        int, typer.Option(help="Measure long enough to quote it: 50, 90, 95 or 99.")
    ] = 90,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare this backend in turns with the others named; at least two.",
            metavar="BACKEND[:FILE]",
        ),
    ] = None,
    blocks: Annotated[int, typer.Option(help="Rounds of a comparison.")] = 40,
    across_precisions: Annotated[
        bool,
        typer.Option("--across-precisions", help="With --compare: also files of other precisions."),
    ] = False,
    limits: Annotated[
        bool, typer.Option(help="Also measure what this machine can do at most, and each layer.")
    ] = True,
    cuda_graph: Annotated[
        bool,
        typer.Option(
            help="ort-cuda, trt, trt-rtx, torch-compile-cuda, aoti-cuda: one launch per run."
        ),
    ] = True,
    fail_if: FailIfOption = None,
    store: StoreOption = True,
    as_json: JsonOption = False,
) -> None:
    """Time the backends: latency, throughput, load time, first inference, memory, file size.

    Example: vgg-deploy bench artifacts/fmnist --backend ort-cpu --batch 1 --batch 8
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.gates import parse_gates
    from vgg_deploy.pipeline.bench import BENCH_FIGURES, BenchOptions, bench_bundle, bench_error
    from vgg_deploy.pipeline.cells import selection_of
    from vgg_deploy.report.bench_tables import bench_table, startup_table
    from vgg_deploy.report.limit_tables import ceilings_table, layers_table
    from vgg_deploy.stored import Keeping, document

    if compare:
        refuse_given(context, _NOT_WITH_COMPARE, _MEANS_NOTHING)
    else:
        alone = dict.fromkeys(("blocks", "across_precisions"), "add --compare, or leave it out")
        refuse_given(context, alone, "needs --compare")
    sizes = positive(batches or (), "batch")  # none: the usual ones that a file takes
    if compare:
        from vgg_deploy.pipeline.contest import CompareOptions

        asked = CompareOptions(
            names=tuple(compare),
            batches=sizes or (1,),
            blocks=blocks,
            across_precisions=across_precisions,
        )
        _compare(bundle, asked, as_json, store)
        return
    options = BenchOptions(
        selection=selection_of(backends, formats, precisions),
        batches=sizes,
        seconds=seconds,
        percentile=percentile,
        ceilings=limits,
        layers=limits,
        cuda_graph=cuda_graph,
        gates=parse_gates(fail_if, BENCH_FIGURES),
    )
    opened = open_bundle(bundle)
    keeping = Keeping(wanted=store, patient=True)
    with watching() as watch:
        report = bench_bundle(opened, options, watch, keeping=keeping)
    if as_json:
        print_json(document(report, bundle))
    else:
        spec = opened.card.spec
        tables = [bench_table(report, spec=spec), startup_table(report)]
        show(*tables, *ceilings_table(report), *layers_table(report, spec))
    settle(bench_error(report, options.gates), keeping)


def _compare(bundle: Path, options: CompareOptions, as_json: bool, store: bool) -> None:
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.pipeline.contest import compare_bundle, told
    from vgg_deploy.report.ratio_tables import contest_table
    from vgg_deploy.stored import Keeping

    keeping = Keeping(wanted=store, patient=True)
    with watching() as watch:
        report = compare_bundle(open_bundle(bundle), options, watch, keeping=keeping)
    if as_json:
        print_json(told(report, bundle))
    else:
        show(*map(contest_table, report.contests))
    settle(None, keeping)
