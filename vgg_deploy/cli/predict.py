"""``vgg-deploy predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, show, watching
from vgg_deploy.cli.options import BundleArgument, JsonOption, precision_of


def predict(
    bundle: BundleArgument,
    images: Annotated[
        list[Path], typer.Argument(help="Image files.", metavar="IMAGE...", show_default=False)
    ],
    backend: Annotated[
        str | None,
        typer.Option("--backend", "-b", help="Without it the first that is usable here."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", "-p", help="Without it fp32 where there is a choice."),
    ] = None,
    top: Annotated[int, typer.Option(help="How many classes to show.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Classify images with a deployed file of the bundle.

    Example: vgg-deploy predict artifacts/fmnist shirt.png --backend ort-cpu
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.pipeline.predict import predict_images
    from vgg_deploy.report.predict_tables import prediction_table

    with watching() as watch:
        predictions = predict_images(
            open_bundle(bundle),
            images,
            backend=backend,
            precision=precision_of(precision) if precision is not None else None,
            top=top,
            watch=watch,
        )
    if as_json:
        print_json(predictions)
    else:
        show(
            *(
                prediction_table(p.image, f"{p.backend}, {p.artifact}", p.classes)
                for p in predictions
            )
        )
