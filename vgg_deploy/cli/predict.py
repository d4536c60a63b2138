"""``vgg-deploy predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vgg_deploy.cli.console import print_json, remark, show, watching
from vgg_deploy.cli.options import BundleArgument, JsonOption, given_path, precision_of
from vgg_deploy.errors import RefusedInput
from vgg_deploy.files import shown

if TYPE_CHECKING:
    from vgg_deploy.pipeline.predict import Prediction, Unreadable


def predict(
    bundle: BundleArgument,
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Image files, and folders of them.",
            metavar="IMAGE...",
            show_default=False,
            parser=given_path,
        ),
    ],
    backend: Annotated[
        str | None,
        typer.Option("--backend", "-b", help="Without it the first that is usable here."),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option("--precision", "-p", help="Without it fp32 where there is a choice."),
    ] = None,
    top: Annotated[
        int, typer.Option(help="How many classes to show of one image; of more, with --json.")
    ] = 5,
    as_json: JsonOption = False,
) -> None:
    """Classify images with a deployed file of the bundle; of several, a row for each.

    Example: vgg-deploy predict artifacts/fmnist shirt.png --backend ort-cpu
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.pipeline.predict import Prediction, images_at, predict_every

    opened = open_bundle(bundle)
    with watching() as watch:
        found = predict_every(
            opened,
            images_at(images),
            backend=backend,
            precision=precision_of(precision) if precision is not None else None,
            top=top,
            watch=watch,
        )
    good = [one for one in found if isinstance(one, Prediction)]
    bad = [one for one in found if not isinstance(one, Prediction)]
    if as_json:
        print_json(found)
    elif good:
        _show(good, one=len(found) == 1)
    _refuse(bad, len(found))


def _show(found: list[Prediction], *, one: bool) -> None:
    from vgg_deploy.report.predict_tables import prediction_table, predictions_table

    by = f"{found[0].backend}, {found[0].artifact}"
    if one:
        show(prediction_table(shown(found[0].image), by, found[0].classes), whole=True)
    else:
        show(predictions_table([(shown(p.image), p.classes) for p in found], by), whole=True)


def _refuse(bad: list[Unreadable], count: int) -> None:
    """The error that what could not be read stands for; of several images each is named before."""
    if not bad:
        return
    if count == 1:
        raise RefusedInput(bad[0].error, bad[0].remedy)
    for image in bad:
        remark(f"left out: {shown(image.error)}")
    remedies = {image.remedy for image in bad}
    remedy = bad[0].remedy if len(remedies) == 1 else "see the reasons above"
    raise RefusedInput(f"{len(bad)} of {count} images could not be read", remedy)
