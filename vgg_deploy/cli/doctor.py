"""``vgg-deploy doctor``."""

from __future__ import annotations

from vgg_deploy.cli.console import print_json, show
from vgg_deploy.cli.options import JsonOption


def doctor(as_json: JsonOption = False) -> None:
    """Every backend, tool and data set: usable here, or why not and what to install.

    Example: vgg-deploy doctor
    """
    from vgg_deploy.doctor import examine
    from vgg_deploy.report.doctor_tables import doctor_tables

    diagnosis = examine()
    if as_json:
        print_json(diagnosis)
    else:
        show(*doctor_tables(diagnosis.backends, diagnosis.others, diagnosis.environment))
