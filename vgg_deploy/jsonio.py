"""JSON of our frozen dataclasses, validated by pydantic where it comes back in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from vgg_deploy.errors import RefusedInput, UsageError, os_errors, require_file
from vgg_deploy.files import write_text

T = TypeVar("T")
_REMAKE = "restore the file or make it again with vgg-deploy"
# JSON's words for what pydantic calls by Python's, and numbers that it would write out
_SAID = {
    "dataclass_type": "should be an object",
    "dict_type": "should be an object",
    "tuple_type": "should be a list",
    "less_than_equal": "should be at most {le:g}",
    "greater_than_equal": "should be at least {ge:g}",
}


@dataclass(frozen=True)
class Told:
    """What a refusal calls a document, and what helps where it is not one."""

    name: str
    remedy: str


@dataclass(frozen=True)
class Version:
    """Where a document tells its version, the one that is read, and what helps with others."""

    key: str
    known: int
    remedy: str


def dumps(value: object, *, indent: int | None = 2) -> str:
    """A dataclass (paths, tuples and nested dataclasses included) as JSON text.

    Raises ``RefusedInput`` for a name that is no UTF-8, which JSON cannot hold.
    """
    try:
        return TypeAdapter(type(value)).dump_json(value, indent=indent).decode()
    except PydanticSerializationError as error:
        if "surrogates" not in str(error):
            raise
        raise RefusedInput(
            f"a name that is not UTF-8 cannot be stored in a {_called(type(value))}",
            "give the file or folder another name",
        ) from error


def loads(kind: type[T], text: str | bytes, *, source: str, told: Told | None = None) -> T:
    """Read a dataclass from JSON; ``RefusedInput`` names the first thing that does not fit."""
    told = told or Told(f"a valid {_called(kind)}", _REMAKE)
    try:
        return TypeAdapter(kind).validate_json(text)
    except UsageError as error:  # values that parse and do not fit each other
        raise RefusedInput(
            f"{source} does not hold {told.name}: {error.cause}", error.remedy
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        ours = _SAID.get(first["type"])
        said = ours.format_map(first.get("ctx", {})) if ours else first["msg"]
        raise RefusedInput(
            f"{source} does not hold {told.name}: {where}: {said}", told.remedy
        ) from error


def _called(kind: type) -> str:
    """A class's name as words: ``golden index``."""
    return re.sub(r"(?<!^)(?=[A-Z])", " ", kind.__name__).lower()


def save(path: Path, value: object) -> None:
    """Write a dataclass to ``path`` atomically."""
    write_text(path, dumps(value) + "\n")


def load(kind: type[T], path: Path, version: Version | None = None, told: Told | None = None) -> T:
    """Read a dataclass from a file, of no other ``version``."""
    require_file(path, told.name if told else _called(kind))
    with os_errors(f"read {path}"):
        text = path.read_bytes()
    if version:
        _require(version, _written(version, text), path)
    value = loads(kind, text, source=str(path), told=told)
    if version:  # "2" and 2.0 are taken for 2
        _require(version, getattr(value, version.key), path)
    return value


def _written(version: Version, text: bytes) -> object:
    """The version as it is written; None where the document is none: validation says why."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document.get(version.key) if isinstance(document, dict) else None


def _require(version: Version, found: object, path: Path) -> None:
    """Refuse another version before anything else: what has changed since would say less."""
    if isinstance(found, int) and found != version.known:
        raise RefusedInput(
            f"{path} has {version.key.replace('_', ' ')} {found}, "
            f"this vgg-deploy reads {version.known}",
            version.remedy,
        )
