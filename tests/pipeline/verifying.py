"""Verifying a bundle with few images, for tests."""

from __future__ import annotations

from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.pipeline.cells import Selection
from vgg_deploy.pipeline.verify import VerifyOptions, verify_bundle
from vgg_deploy.results import Comparison

QUICK = VerifyOptions(selection=Selection(formats=("onnx",)), images=8, accuracy=False)


def rows_of(bundle: Bundle, options: VerifyOptions = QUICK) -> dict[str, Comparison]:
    """The rows of a report by backend and file."""
    report = verify_bundle(open_bundle(bundle.root), options)
    return {row.subject.id: row for row in report.rows}
