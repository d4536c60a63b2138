"""``vgg-deploy verify``."""

from __future__ import annotations

from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, settle, show, watching
from vgg_deploy.cli.options import (
    BackendsOption,
    BundleArgument,
    DataDirOption,
    JsonOption,
    OnlyFormatsOption,
    OnlyPrecisionsOption,
    OptionalDataOption,
    StoreOption,
    positive,
)


def verify(
    bundle: BundleArgument,
    backends: BackendsOption = None,
    formats: OnlyFormatsOption = None,
    precisions: OnlyPrecisionsOption = None,
    batches: Annotated[
        list[int] | None,
        typer.Option("--batch", help="Batch size; may be repeated. Default: 1, 2, 8."),
    ] = None,
    images: Annotated[int, typer.Option(help="Real images to compare logits on.")] = 32,
    data: OptionalDataOption = None,
    data_dir: DataDirOption = None,
    accuracy: Annotated[
        bool, typer.Option(help="Also compare top-1 accuracy on the whole test split.")
    ] = True,
    max_top1_drop: Annotated[
        float | None,
        typer.Option(
            help="Points of top-1 accuracy that may be lost; else 0.1 for fp32 to 0.5 for int8.",
            metavar="POINTS",
            show_default=False,
        ),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help='Also fail where this holds, for example "top1_drop>0.3"; may be repeated. '
            "top1 and the drops are in points, top5_agreement and cosine go up to 1.",
            metavar="CONDITION",
        ),
    ] = None,
    locate: Annotated[
        bool, typer.Option("--locate", help="Name the first stage where a wrong file diverges.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Which images and which noise.")] = 0,
    store: StoreOption = True,
    as_json: JsonOption = False,
) -> None:
    """Compare every usable backend with the float64 reference; exit 7 if one is not equivalent.

    Example: vgg-deploy verify artifacts/fmnist --backend ort-cpu --fail-if "top1_drop>0.3"
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.pipeline.cells import selection_of
    from vgg_deploy.pipeline.verify import VerifyOptions, gates_of, verdict_error, verify_bundle
    from vgg_deploy.report.chain_tables import blame_tables
    from vgg_deploy.report.tables import verify_table
    from vgg_deploy.stored import Keeping, document

    options = VerifyOptions(
        selection=selection_of(backends, formats, precisions),
        images=images,
        batches=positive(batches or (1, 2, 8), "batch"),
        seed=seed,
        data=data,
        data_dir=data_dir,
        accuracy=accuracy,
        max_top1_drop=max_top1_drop,
        gates=gates_of(fail_if),
        locate=locate,
    )
    keeping = Keeping(wanted=store, patient=True)
    with watching() as watch:
        report = verify_bundle(open_bundle(bundle), options, watch, keeping=keeping)
    if as_json:
        print_json(document(report, bundle))
    else:
        show(verify_table(report), *blame_tables(report))
    settle(verdict_error(report), keeping)
