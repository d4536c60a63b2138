"""``vgg-deploy diff``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vgg_deploy.cli.console import print_json, remark, show
from vgg_deploy.cli.options import JsonOption

_RUN = "A bundle, a folder with its results, or its results/bench.json or results/verify.json."
_FailIf = Annotated[
    list[str] | None,
    typer.Option(
        help='Fail where this holds, for example "ratio_low>1.05"; may be repeated.',
        metavar="CONDITION",
    ),
]


def diff(
    old: Annotated[Path, typer.Argument(help=_RUN, metavar="OLD", show_default=False)],
    new: Annotated[Path, typer.Argument(help=_RUN, metavar="NEW", show_default=False)],
    fail_if: _FailIf = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two stored runs: what became faster or slower, and which verdicts and errors changed.

    Of bench with 95 % intervals; of verify the verdict, the largest difference and the share that
    the nearest limit is used to. A verdict that became worse is exit 7 without any condition.

    Conditions know ratio, ratio_low and ratio_high: p50 of the new run over the old one; and,
    without an interval, p99_ratio, load_ratio, first_ratio, peak_memory_ratio and file_ratio;
    of verify share_ratio, the new share of the nearest limit over the old one.

    Example: vgg-deploy diff before artifacts/fmnist --fail-if "ratio_low>1.05"
    """
    from vgg_deploy.gates import parse_gates
    from vgg_deploy.pipeline.diff import DIFF_FIGURES, diff_error, diff_runs, told
    from vgg_deploy.report.ratio_tables import changes_table, diff_table, plain_table
    from vgg_deploy.report.verdict_changes import verdicts_table

    gates = parse_gates(fail_if, DIFF_FIGURES)
    found = diff_runs(old, new)
    if as_json:
        print_json(told(found))
    else:
        tables = [verdicts_table(found.verdicts)] if found.verdicts else []
        tables += [diff_table(found.rows), plain_table(found.rows)] if found.rows else []
        show(*tables, *([changes_table(found.changed)] if found.changed else []))
    for kind, reason in found.not_compared.items():
        remark(f"diff: {kind} is not compared: {reason}")
    if error := diff_error(found, gates):
        raise error
