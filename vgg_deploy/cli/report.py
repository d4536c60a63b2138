"""``vgg-deploy report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, print_text, remark, watching
from vgg_deploy.cli.options import BundleArgument, JsonOption, given_path
from vgg_deploy.errors import UsageError


def report(
    bundle: BundleArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The file, or - for stdout; default: report.* in the bundle.",
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
    from vgg_deploy.files import destination
    from vgg_deploy.report.html import report_text, write_report
    from vgg_deploy.report.target import is_stdout, kind_for

    chosen = kind_for(kind, out)
    to_stdout = is_stdout(out)
    if to_stdout and as_json:
        raise UsageError("--json and -o - both need stdout", "leave one of them out")
    named = out or bundle / f"report.{chosen}"
    target = destination(out) if out and not to_stdout else named
    opened = open_bundle(bundle)
    with watching() as watch:
        watch.begin("check the files", len(opened.artifacts), "files")
        if to_stdout:
            text = report_text(opened, chosen, hashed=watch.advance)
        else:
            write_report(opened, target, chosen, hashed=watch.advance)
    if to_stdout:
        print_text(text)
    elif as_json:
        print_json({"report": str(named)})
    else:
        remark(f"wrote {named}")
