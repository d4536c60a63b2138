"""What ``embed`` notes in an app, so that another model can take the place of the one in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy import __version__
from vgg_deploy.embed.targets import RECORD, Target, TargetName
from vgg_deploy.errors import RefusedInput, os_errors
from vgg_deploy.jsonio import dumps, loads


@dataclass(frozen=True, kw_only=True)
class Record:
    """Which app it is, and the texts of its model as they were written."""

    target: TargetName
    made_by: str
    texts: Mapping[str, str]  # SHA-256 by name


def write_record(folder: Path, name: TargetName, target: Target) -> None:
    """Note what a finished app is; labels, tests and README may be edited later."""
    texts = {text: _digest(folder / text) for text in _texts(target)}
    record = Record(target=name, made_by=f"vgg-deploy {__version__}", texts=texts)
    (folder / RECORD).write_text(dumps(record) + "\n", encoding="utf-8")


def require_app(folder: Path, name: TargetName, target: Target) -> None:
    """Refuse a folder that is no app of this target, or where a text to replace was edited."""
    with os_errors(f"read {folder}"):
        if not (folder / RECORD).is_file():
            raise RefusedInput(
                f"{folder} is no app that embed made: it holds no {RECORD}",
                "leave out --update for a new app",
            )
        record = loads(Record, (folder / RECORD).read_bytes(), source=str(folder / RECORD))
        if record.target != name:
            raise RefusedInput(
                f"{folder} is an app for {record.target}, not for {name}",
                f"give --target {record.target}",
            )
        edited = next(_edited(folder, record, target), None)
    if edited is not None:
        raise RefusedInput(
            f"{folder / edited} is not as embed wrote it, and would be replaced",
            "restore it, or embed into a new folder and copy what README.md there names",
        )


def _texts(target: Target) -> tuple[str, ...]:
    return (target.labels, *target.bound, "README.md")


def _edited(folder: Path, record: Record, target: Target) -> Iterator[str]:
    """Texts that are there and differ; one that was removed, such as a test, is nobody's loss."""
    for name in _texts(target):
        path = folder / name
        if path.exists() and _digest(path) != record.texts.get(name):
            yield name


def _digest(path: Path) -> str:
    """Of the text, whichever line ends Git gave it."""
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
