"""``vgg-deploy export``."""

from __future__ import annotations

from vgg_deploy.cli.console import print_json, remark, watching
from vgg_deploy.cli.options import BundleArgument, FormatsOption, JsonOption


def export(
    bundle: BundleArgument,
    formats: FormatsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make deployable files from the checkpoint; what is still valid is kept.

    Example: vgg-deploy export artifacts/fmnist --format torchscript --format onnx
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.pipeline.export import export_bundle

    with watching() as watch:
        _, made, skipped = export_bundle(open_bundle(bundle), tuple(formats or ()), watch)
    if as_json:
        print_json({"artifacts": made, "skipped": skipped})
    else:
        remark(f"{len(made)} artifacts in {bundle}, {len(skipped)} skipped")
