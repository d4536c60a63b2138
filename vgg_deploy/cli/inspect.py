"""``vgg-deploy inspect``."""

from __future__ import annotations

from vgg_deploy.cli.console import print_json, show
from vgg_deploy.cli.options import BundleArgument, JsonOption


def inspect(bundle: BundleArgument, as_json: JsonOption = False) -> None:
    """What is in a bundle, where each file came from, whether digests hold (exit 4 if not).

    Example: vgg-deploy inspect artifacts/fmnist
    """
    from vgg_deploy.bundle import open_bundle
    from vgg_deploy.report.tables import artifacts_table

    opened = open_bundle(bundle)
    problems = {str(a.path): text for a in opened.artifacts if (text := opened.problem(a))}
    if golden := opened.golden_problem():
        problems["golden"] = golden
    if as_json:
        print_json({"manifest": opened.manifest, "problems": problems})
    else:
        show(artifacts_table(opened, problems))
    opened.check(a for a in opened.artifacts if str(a.path) in problems)
    opened.check_golden()
