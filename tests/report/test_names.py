"""Names of folders, whatever their characters, in a report."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.report.findings import gather
from vgg_deploy.report.html import write_report
from vgg_deploy.report.plain import markdown_of
from vgg_deploy.report.target import KINDS, Kind


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_whose_name_is_not_utf_8_has_a_report(
    sample: Bundle, tmp_path: Path, kind: Kind
) -> None:
    root = tmp_path / os.fsdecode(b"caf\xe9")
    sample.root.rename(root)
    page = write_report(open_bundle(root), root / "page", kind)
    assert "caf\\udce9" in page.read_text(encoding="utf-8").replace("\\\\", "\\")


def test_a_lead_is_text_in_markdown(sample: Bundle) -> None:
    findings = gather(sample)
    assert findings.verify
    named = replace(findings.verify, image_source="folder <b>*my* [photos](x)")
    text = markdown_of(replace(findings, verify=named))
    assert "on folder &lt;b>\\*my\\* \\[photos\\](x), seeded noise" in text
    assert "<b>" not in text
