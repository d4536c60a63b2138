"""``vgg-deploy export``."""

from __future__ import annotations

from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, remark, watching
from vgg_deploy.cli.options import (
    BundleArgument,
    CalibrationDataOption,
    CalibrationImagesOption,
    DataDirOption,
    FormatsOption,
    JsonOption,
    PrecisionsOption,
    refuse_given,
)
from vgg_deploy.errors import UsageError, counted

_MEASURED = {"fp16", "int8", "fp8"}  # precisions that look at images
_CALIBRATION = dict.fromkeys(
    ("calibration_data", "calibration_images", "data_dir"),
    f"add --precision {', '.join(sorted(_MEASURED))}, or leave it out",
)


def export(
    context: typer.Context,
    bundle: BundleArgument,
    formats: FormatsOption = None,
    precisions: PrecisionsOption = None,
    calibration_data: CalibrationDataOption = None,
    calibration_images: CalibrationImagesOption = None,
    data_dir: DataDirOption = None,
    embedded: Annotated[
        bool,
        typer.Option(
            "--embedded",
            help="Also ONNX files with preprocessing and softmax inside, in the same precisions.",
        ),
    ] = False,
    resize: Annotated[
        str,
        typer.Option(
            help="Of the embedded file. portable: right in every runtime; native: ONNX's Resize, "
            "right in ONNX Runtime only; none: the app gives the network's size."
        ),
    ] = "portable",
    topk: Annotated[
        int, typer.Option(help="Of the embedded file: also give the K best classes.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Make deployable files from the checkpoint; what is still valid is kept.

    Example: vgg-deploy export artifacts/fmnist --format onnx --precision fp16 --precision int8

    Example: vgg-deploy export artifacts/fmnist --format onnx --embedded
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.export.baked import EmbeddedOptions, resize_of
    from vgg_deploy.pipeline.export import export_files
    from vgg_deploy.precision.options import CalibrationOptions

    if not _MEASURED & set(precisions or ()):
        refuse_given(context, _CALIBRATION, "has no effect: nothing is measured on images")
    options = EmbeddedOptions(resize=resize_of(resize), topk=topk)
    if not embedded and options != EmbeddedOptions():
        raise UsageError("--resize and --topk shape the embedded file", "add --embedded")
    calibration = CalibrationOptions(
        data=calibration_data, data_dir=data_dir, images=calibration_images
    )
    with watching() as watch:
        done = export_files(
            open_bundle(bundle),
            tuple(formats or ()),
            watch,
            precisions=tuple(precisions or ()),
            calibration=calibration,
            embedded=options if embedded else None,
        )
    if as_json:
        told = {"artifacts": done.made, "skipped": done.skipped}
        print_json({**told, "failed": done.failed, "dropped": done.dropped})
    else:
        failed = f", {len(done.failed)} failed" if done.failed else ""
        made = counted(len(done.made), "artifact")
        remark(f"{made} in {bundle}, {len(done.skipped)} skipped{failed}")
    if done.error:
        raise done.error
