"""Stored results: read across schema versions, and with a digest that tells edited ones."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vgg_deploy import jsonio
from vgg_deploy.errors import (
    DigestMismatch,
    RefusedInput,
    VggDeployError,
    os_errors,
    require_file,
)
from vgg_deploy.files import refuse_linked, staged, word, write_text
from vgg_deploy.results import SCHEMA_VERSION, BenchReport, VerifyReport

Report = TypeVar("Report", VerifyReport, BenchReport)
Payload = dict[str, Any]
DIGEST = "digest"
_NAMES = {VerifyReport: "results of verify", BenchReport: "results of bench"}
_RENAMED = {"accuracy_drop": "top1_drop"}  # figures of version 1


_ROOM = 4096  # bytes, the smallest file of most file systems


@dataclass
class Keeping:
    """How a report is stored, by those who make it."""

    wanted: bool = True
    patient: bool = False  # keep what went wrong in ``error``: the report is still to be shown
    error: VggDeployError | None = None

    def check(self, path: Path) -> None:
        """Refuse, before the work, a place where nothing can be written."""
        if not self.wanted:
            return
        refuse_linked(path.parent)
        try:
            with staged(path) as partial, os_errors(f"write {path}"):
                partial.write_bytes(bytes(_ROOM))
        except VggDeployError as error:
            raise _unkept(error) from error

    def save(self, path: Path, report: VerifyReport | BenchReport, *, found: bool = True) -> bool:
        """Store a report where that is wanted; False where an earlier one is left as it was.

        Where every row was skipped, nothing ``found``, what an earlier run found is worth more.
        """
        if not self.wanted:
            return True
        if not found and path.exists():
            return False
        try:
            save(path, report)
        except VggDeployError as error:
            if not self.patient:
                raise
            self.error = _unkept(error)
        return True


def _unkept(error: VggDeployError) -> VggDeployError:
    remedy = "make room or change the rights there, or use --no-store: results are printed only"
    return type(error)(error.cause, remedy)


def save(path: Path, report: VerifyReport | BenchReport) -> None:
    """Write a report atomically, with the SHA-256 of its content, to a bundle's ``results/``."""
    refuse_linked(path.parent)
    told = document(report, path.parent.parent)
    write_text(path, json.dumps(told, indent=2, ensure_ascii=False) + "\n")


def document(report: VerifyReport | BenchReport, root: Path) -> Payload:
    """A report as it is stored and printed: with the SHA-256 of its content.

    Reasons do not name the bundle's folder, ``root``: they hold wherever it is moved to.
    """
    payload: Payload = _portable(json.loads(jsonio.dumps(report, indent=None)), root)
    return {DIGEST: digest_of(payload), **payload}


_TOLD = ("reason", "note")  # keys of texts that may name files and commands


def _portable(value: Any, root: Path) -> Any:
    if isinstance(value, list):
        return [_portable(one, root) for one in value]
    if not isinstance(value, dict):
        return value
    texts = {k: _without(root, v) for k, v in value.items() if k in _TOLD and isinstance(v, str)}
    return {k: texts[k] if k in texts else _portable(v, root) for k, v in value.items()}


def _without(root: Path, text: str) -> str:
    """With files as they are called in the bundle, and BUNDLE for it in commands."""
    names = {str(root), str(root.absolute()), os.path.realpath(root)} - {"."}
    for name in sorted(names, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.~/\\-]){re.escape(name)}[/\\]", "", text)
        command = rf"(vgg-deploy [a-z-]+ )(?:{re.escape(name)}|{re.escape(word(name))})"
        text = re.sub(rf"{command}(?![\w/\\-]|\.\w)", r"\1BUNDLE", text)
    if str(root) == ".":
        text = re.sub(r"(vgg-deploy [a-z-]+ )\.(?![^\s,;:)])", r"\1BUNDLE", text)
    return text


def load(kind: type[Report], path: Path) -> Report:
    """Read a report; one of an older schema is brought up to date.

    Raises ``DigestMismatch`` for a file that was edited, ``RefusedInput`` for one that is no
    report or comes from a newer version.
    """
    try:
        return _load(kind, path)
    except RecursionError as error:  # nested too deeply
        raise _no_report(kind, path) from error


def load_either(path: Path) -> VerifyReport | BenchReport:
    """``load`` of a file that may hold either kind."""
    try:
        verified = "image_source" in _payload(BenchReport, path)
    except RecursionError as error:
        raise _no_report(BenchReport, path) from error
    return load(VerifyReport, path) if verified else load(BenchReport, path)


def _load(kind: type[Report], path: Path) -> Report:
    payload = _payload(kind, path)
    version = payload.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION or version < 1:
        raise RefusedInput(
            f"{path} has schema version {version}, this vgg-deploy reads 1 to {SCHEMA_VERSION}",
            "measure again with this version, or use the one that wrote the file",
        )
    digest = payload.pop(DIGEST, None)
    bare = version == 1 and digest is None  # that version had none
    if not bare and digest is None:
        raise DigestMismatch(
            f"{path} has no digest: it was edited, or is not what vgg-deploy wrote",
            "restore the file, or measure again",
        )
    if not bare and digest != digest_of(payload):
        raise DigestMismatch(
            f"{path} was edited after it was measured: its digest does not fit",
            "restore the file, or measure again",
        )
    for step in range(version, SCHEMA_VERSION):
        try:
            payload = _MIGRATIONS[step](payload)
        except (TypeError, AttributeError) as error:  # lists and objects where others belong
            raise _no_report(kind, path) from error
    return jsonio.loads(
        kind,
        json.dumps(payload),
        source=str(path),
        told=jsonio.Told(_NAMES[kind], "restore the file, or measure again"),
    )


def digest_of(payload: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON object, whatever its spacing and the order of its keys."""
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _payload(kind: type[Report], path: Path) -> Payload:
    require_file(path, _NAMES[kind])
    with os_errors(f"read {path}"):
        text = path.read_bytes()
    try:
        payload = json.loads(text)
    except ValueError as error:
        raise _no_report(kind, path) from error
    if not isinstance(payload, dict):
        raise _no_report(kind, path)
    return payload


def _no_report(kind: type[Report], path: Path) -> RefusedInput:
    return RefusedInput(
        f"{path} does not hold {_NAMES[kind]}", "restore the file, or measure again"
    )


def _from_1(payload: Payload) -> Payload:
    """Version 2 has a digest, hops and worst images; one figure got another name.

    Where nothing was counted there is no accuracy any more.
    """
    for row in payload.get("rows", ()):
        if (row.get("accuracy") or {}).get("total") == 0:
            row["accuracy"] = None
        for figure in row.get("figures", ()):
            figure["name"] = _RENAMED.get(figure.get("name"), figure.get("name"))
    return {**payload, "schema_version": 2}


_MIGRATIONS: Mapping[int, Callable[[Payload], Payload]] = {1: _from_1}
