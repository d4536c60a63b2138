"""``vgg-deploy inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from vgg_deploy.cli.console import print_json, remark, show
from vgg_deploy.cli.options import BundleArgument, JsonOption
from vgg_deploy.files import shown, unfinished
from vgg_deploy.manifest import MANIFEST, strays

if TYPE_CHECKING:
    from vgg_deploy.bundle import Bundle


def inspect(
    bundle: BundleArgument,
    engine: Annotated[
        str | None,
        typer.Option(help="Show the layers of this engine, a .plan file of the bundle."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What network a bundle holds, its files, and whether their digests hold (exit 4 if not).

    Example: vgg-deploy inspect artifacts/fmnist
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.export.described import manifest_problem, require_described

    opened = open_bundle(bundle)
    if engine is not None:
        _layers(opened, engine, as_json)
        return
    problems = {str(a.path): text for a in opened.artifacts if (text := opened.problem(a))}
    if golden := opened.golden_problem():
        problems["golden"] = golden
    if manifest := manifest_problem(opened):
        problems[MANIFEST] = manifest
    if as_json:
        print_json({"manifest": opened.manifest, "problems": problems})
    else:
        _show(opened, problems)
    _name_unfinished(opened)
    _name_strays(opened)
    opened.check(a for a in opened.artifacts if str(a.path) in problems)
    opened.check_golden()
    require_described(opened)


def _show(bundle: Bundle, problems: dict[str, str]) -> None:
    from vgg_deploy.report.model_tables import network_table
    from vgg_deploy.report.tables import artifacts_table

    checkpoint = bundle.find("checkpoint")
    made_by = checkpoint.made_by if checkpoint else {}
    show(network_table(bundle.card, made_by), artifacts_table(bundle, problems))


def _name_strays(bundle: Bundle) -> None:
    for path in strays(bundle.root, bundle.manifest):
        remark(
            f"{shown(path)} looks like a file of the bundle, but the manifest does not name it: it "
            "is from before or from elsewhere, no command opens it, and it may be deleted"
        )


def _name_unfinished(bundle: Bundle) -> None:
    """Hidden folders of a killed command: nothing else tells of their megabytes."""
    for folder, size in unfinished(bundle.root).items():
        remark(
            f"{folder} holds {size / 1e6:,.1f} MB that were never finished: "
            "delete it if no command is writing to the bundle"
        )


def _layers(bundle: Bundle, name: str, as_json: bool) -> None:
    from vgg_deploy.pipeline.build import inspect_engine
    from vgg_deploy.report.engine_tables import engine_table

    engine, notes = inspect_engine(bundle, name)
    if as_json:
        print_json({"engine": engine, "notes": notes})
    else:
        show(engine_table(engine, notes))
