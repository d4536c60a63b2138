"""The tables of ``vgg-deploy selfcheck``."""

from __future__ import annotations

from vgg_deploy.golden import GoldenTolerance, Judged, Selfcheck
from vgg_deploy.report.table import Column, Row, Table


def selfcheck_table(found: Selfcheck, bound: GoldenTolerance) -> Table:
    """One row per golden image."""
    bad = sum(bool(image.reason) for image in found.images)
    return Table(
        title=f"{found.app or 'the app'}, {found.precision}",
        columns=(
            Column(name="Image"),
            Column(name="Logits", align="right"),
            Column(name="Probabilities", align="right"),
            Column(name="First class"),
            Column(name="Reason", align="prose"),
        ),
        rows=tuple(_row(image) for image in found.images),
        note=(
            f"{len(found.images) - bad} pass, {bad} do not; largest differences from float64, "
            f"allowed {bound.logits:.2g} and {bound.probabilities:.2g}"
        ),
    )


def suspects_table(found: Selfcheck) -> Table:
    """The mistakes that fit best, with what each leaves unexplained."""
    return Table(
        title="Likely cause" if found.explained else "No known mistake explains it; the nearest",
        columns=(
            Column(name="Pattern"),
            Column(name="Unexplained", align="right"),
            Column(name="What it is", align="prose"),
        ),
        rows=tuple(Row(cells=(s.name, f"{s.residual:.1%}", s.cause)) for s in found.suspects),
        note="share of the app's error that is left when it is compared with that mistake",
    )


def _row(image: Judged) -> Row:
    return Row(
        cells=(
            image.image,
            _told(image.logits),
            _told(image.probabilities),
            "ok" if image.top1_ok else "differs",
            image.reason,
        ),
        status="bad" if image.reason else "ok",
    )


def _told(value: float | None) -> str:
    return "–" if value is None else f"{value:.2e}"
