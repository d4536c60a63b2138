"""Best epochs that an older checkpoint still speaks of, kept until none does.

    checkpoints/best-0123456789abcdef/best.safetensors
                                      evaluation.json

``best.safetensors`` is replaced when an epoch is better. Where the newest checkpoint turns out
to be damaged, the one before it needs the best weights of its own time.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from vgg_deploy.errors import os_errors
from vgg_deploy.files import atomic, commit, sha256_of, staged
from vgg_deploy.train.outcome import BEST_FILE, EVALUATION_FILE

_PREFIX, _DIGITS = "best-", 16
_NAME = re.compile(rf"{_PREFIX}[0-9a-f]{{{_DIGITS}}}")
_FILES = (EVALUATION_FILE, BEST_FILE)


def _place(checkpoints: Path, digest: str) -> Path:
    return checkpoints / f"{_PREFIX}{digest[:_DIGITS]}"


def keep(run: Path, checkpoints: Path, digest: str | None) -> None:
    """Keep the best weights of that digest, before others take their place."""
    if digest is None or not _is(run / BEST_FILE, digest):
        return
    target = _place(checkpoints, digest)
    if target.exists():
        return
    with staged(target) as partial, os_errors(f"write {target}"):
        partial.mkdir()
        for name in _FILES:
            if (run / name).is_file():
                _linked(run / name, partial / name)
        commit(partial, target)


def put_back(run: Path, checkpoints: Path, digest: str) -> bool:
    """Make the best weights of that digest those of the run; whether they are now."""
    if _is(run / BEST_FILE, digest):
        return True
    kept = _place(checkpoints, digest)
    if not _is(kept / BEST_FILE, digest):
        return False
    for name in _FILES:
        if (kept / name).is_file():
            with atomic(run / name) as partial, os_errors(f"write {run / name}"):
                shutil.copyfile(kept / name, partial)
    return True


def kept(checkpoints: Path) -> list[Path]:
    """The folders of best epochs that are kept."""
    return sorted(p for p in checkpoints.glob(f"{_PREFIX}*") if _NAME.fullmatch(p.name))


def drop_unused(checkpoints: Path, digests: Collection[str]) -> None:
    """Remove the best epochs of which no checkpoint speaks any more."""
    needed = {_place(checkpoints, digest) for digest in digests}
    for path in kept(checkpoints):
        if path not in needed:
            shutil.rmtree(path, ignore_errors=True)


def _is(path: Path, digest: str) -> bool:
    with os_errors(f"read {path}"):
        return path.is_file() and sha256_of(path) == digest


def _linked(source: Path, target: Path) -> None:
    """The same bytes under another name; both files are only ever replaced, never changed."""
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)
