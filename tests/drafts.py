"""Artifacts to be added to a bundle, and their bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vgg_deploy.artifact import Format
from vgg_deploy.bundle import Bundle
from vgg_deploy.manifest import Draft


def draft(bundle: Bundle, format: Format, parent: str | None) -> Draft:
    first = bundle.checkpoint
    return Draft(
        format=format,
        precision="fp32",
        input=first.input,
        output=first.output,
        parent=parent,
        made_by={"b": "2", "a": "1"},
    )


def writes(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write
