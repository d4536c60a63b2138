"""``vgg-deploy report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, remark
from vgg_deploy.cli.options import BundleArgument, JsonOption


def report(
    bundle: BundleArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page; default: BUNDLE/report.html.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one self-contained HTML page from the bundle's stored results.

    Example: vgg-deploy report artifacts/fmnist
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.report.html import REPORT_FILE, write_report

    page = write_report(open_bundle(bundle), out or bundle / REPORT_FILE)
    if as_json:
        print_json({"report": str(page)})
    else:
        remark(f"wrote {page}")
