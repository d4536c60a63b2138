"""``vgg-deploy build``."""

from __future__ import annotations

from typing import Annotated

import typer

from vgg_deploy.artifact import PRECISIONS
from vgg_deploy.cli.console import print_json, show, watching
from vgg_deploy.cli.options import BundleArgument, JsonOption, complete, precision_of


def build(
    bundle: BundleArgument,
    flavour: Annotated[str, typer.Option(help="tensorrt or tensorrt-rtx.")] = "tensorrt",
    precision: Annotated[
        list[str] | None,
        typer.Option(
            "--precision",
            "-p",
            help="fp32, tf32, fp16, bf16, int8 or fp8; may be repeated. Default: fp32.",
            autocompletion=complete(lambda: PRECISIONS),
        ),
    ] = None,
    batch: Annotated[
        list[str] | None,
        typer.Option(
            help="Batch sizes smallest:best:largest; repeated for several profiles. "
            "Default: 1:8:64."
        ),
    ] = None,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            help="GPU to build for, such as 8.9; tensorrt-rtx only, where no GPU is needed then; "
            "may be repeated. Default: the GPU that is here."
        ),
    ] = None,
    workspace: Annotated[
        int | None,
        typer.Option(help="Most scratch memory of kernels, in MiB. Default: all."),
    ] = None,
    optimization_level: Annotated[
        int | None, typer.Option(help="0: fast build, to 5: fast engine. Default: 3.")
    ] = None,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="Runs on every GPU from 8.0 on, slower.")
    ] = False,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Runs in later TensorRTs, too.")
    ] = False,
    strip_weights: Annotated[
        bool,
        typer.Option(
            "--strip-weights", help="A plan without weights; they are read from the ONNX file."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Build TensorRT engines from the bundle's ONNX files; what is still valid is kept.

    Example: vgg-deploy build artifacts/fmnist --flavour tensorrt --precision fp16 --batch 1:8:64
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.pipeline.build import build_bundle, flavour_of
    from vgg_deploy.report.engine_tables import built_table
    from vgg_deploy.trt.options import BuildOptions
    from vgg_deploy.trt.profile import parse_profiles

    options = BuildOptions(
        flavour=flavour_of(flavour),
        profiles=parse_profiles(batch or ()),
        workspace=workspace,
        optimization_level=optimization_level,
        hardware_compatible=hardware_compatible,
        version_compatible=version_compatible,
        strip_weights=strip_weights,
    )
    precisions = [precision_of(text) for text in precision or ()]
    with watching() as watch:
        done, error = build_bundle(
            open_bundle(bundle), options, precisions, compute_capability or (), watch
        )
    if as_json:
        print_json({"engines": done})
    elif error is None or len(done) > 1:
        show(built_table(done))
    if error:
        raise error
