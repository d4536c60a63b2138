"""The report of a bundle's stored results: one self-contained HTML page, Markdown, or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.files import write_text
from vgg_deploy.libraries import why_not
from vgg_deploy.report.command_line import title_of
from vgg_deploy.report.findings import Findings, gather, summarise
from vgg_deploy.report.gallery import Gallery
from vgg_deploy.report.highlights import highlights
from vgg_deploy.report.plain import json_of, made_at, markdown_of
from vgg_deploy.report.reproduce import commands
from vgg_deploy.report.sections import sections
from vgg_deploy.report.table import SIGNS, Table
from vgg_deploy.report.target import Kind, refuse_own

REPORT_FILE = "report.html"  # relative to the bundle
TEMPLATE = "template.html"


def write_report(
    bundle: Bundle,
    path: Path,
    kind: Kind = "html",
    hashed: Callable[[], object] = lambda: None,
) -> Path:
    """Write the report of a bundle to ``path``, atomically; returns ``path``.

    ``hashed`` is called after each artifact whose digest was checked.

    Raises ``BackendNotAvailable`` without jinja2 or matplotlib, ``RefusedInput`` for stored
    results that cannot be read, ``UsageError`` for a path that is the bundle's own.
    """
    refuse_own(bundle, path)
    write_text(path, report_text(bundle, kind, hashed))
    return path


def report_text(
    bundle: Bundle, kind: Kind = "html", hashed: Callable[[], object] = lambda: None
) -> str:
    """The report of a bundle; arguments and errors as those of ``write_report``."""
    return _WRITERS[kind](gather(bundle, hashed))


def page_of(findings: Findings) -> str:
    """The page as text; equal findings give equal text."""
    try:
        import jinja2
    except ImportError as error:
        raise BackendNotAvailable(
            f"the report needs jinja2, which {why_not('jinja2', error)}",
            'pip install "vgg-deploy[report]"',
        ) from error
    template = resources.files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    bundle = findings.bundle
    return environment.from_string(template).render(
        name=title_of(bundle),
        card=bundle.card,
        summary=summarise(findings),
        highlights=highlights(findings),
        sections=sections(findings),
        artifacts=bundle.artifacts,
        paths={a.sha256: str(a.path) for a in bundle.artifacts},
        commands=commands(findings),
        signs=SIGNS,
        is_table=lambda part: isinstance(part, Table),
        is_gallery=lambda part: isinstance(part, Gallery),
        made_at=made_at(findings),
    )


def _json(findings: Findings) -> str:
    return json.dumps(json_of(findings), indent=2, ensure_ascii=False) + "\n"


_WRITERS: Mapping[Kind, Callable[[Findings], str]] = {
    "html": page_of,
    "md": markdown_of,
    "json": _json,
}
