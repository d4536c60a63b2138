"""Which file a report goes to, and in which kind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import UsageError, unknown_choice
from vgg_deploy.files import shown
from vgg_deploy.golden import FOLDER as GOLDEN_FOLDER
from vgg_deploy.manifest import MANIFEST, notes_path
from vgg_deploy.replacing import TRAINING
from vgg_deploy.results import BENCH_FILE

Kind = Literal["html", "md", "json"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_SUFFIXES: dict[str, Kind] = {
    ".html": "html",
    ".htm": "html",
    ".md": "md",
    ".markdown": "md",
    ".json": "json",
}
_STDOUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_FOLDERS = (str(Path(BENCH_FILE).parent), TRAINING, GOLDEN_FOLDER)


def kind_of(text: str) -> Kind:
    """A kind by its name, or ``UsageError`` with the nearest one."""
    found = next((kind for kind in KINDS if kind == text), None)
    if found is None:
        raise unknown_choice("format", text, KINDS)
    return found


def kind_for(asked: str | None, out: Path | None) -> Kind:
    """The kind that was asked for, else that of the file's suffix, else HTML.

    Raises ``UsageError`` where the two contradict each other.
    """
    named = _SUFFIXES.get(out.suffix.lower()) if out else None
    if asked is None:
        return named or "html"
    kind = kind_of(asked)
    if out and named not in (None, kind):
        raise UsageError(
            f"--format {kind} contradicts the name {shown(out)}",
            "leave --format out, or give the file another name with -o",
        )
    return kind


def is_stdout(out: Path | None) -> bool:
    """Whether the name stands for standard output."""
    return out is not None and out.as_posix() in _STDOUT


def refuse_own(bundle: Bundle, target: Path) -> None:
    """``UsageError`` for a target that is a record or a file of the bundle itself."""
    place = _real(target)
    own = [bundle.path(artifact) for artifact in bundle.artifacts]
    notes = [notes_path(bundle.path(a)) for a in bundle.artifacts if a.format == "engine"]
    folders = {_real(bundle.root / name) for name in _FOLDERS}
    if place in map(_real, (bundle.root / MANIFEST, *own, *notes)) or folders & {
        place,
        *place.parents,
    }:
        raise UsageError(
            f"{shown(target)} belongs to the bundle, and a report would overwrite it",
            "leave -o out, or choose another file",
        )


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
