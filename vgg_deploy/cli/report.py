"""``vgg-deploy report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, remark, watching
from vgg_deploy.cli.options import BundleArgument, JsonOption, given_path


def report(
    bundle: BundleArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The file; default: report.* in the bundle.",
            metavar="<path>",
            parser=given_path,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option("--format", "-f", help="html, md or json; default: as -o says, else html."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a report from the bundle's stored results: one self-contained page, or plain text.

    Example: vgg-deploy report artifacts/fmnist
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.report.html import write_report
    from vgg_deploy.report.target import kind_for

    chosen = kind_for(kind, out)
    opened = open_bundle(bundle)
    with watching() as watch:
        watch.begin("check the files", len(opened.artifacts), "files")
        target = out or bundle / f"report.{chosen}"
        page = write_report(opened, target, chosen, hashed=watch.advance)
    if as_json:
        print_json({"report": str(page)})
    else:
        remark(f"wrote {page}")
