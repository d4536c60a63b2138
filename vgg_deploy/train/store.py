"""Checkpoints of a run on disk: whole or absent, the newest two kept.

    checkpoints/step-00000120/tensors.safetensors
                              state.json
                              complete.json       digests of the two, written last

A folder is made under another name and renamed when its bytes are on the disk, so that neither a
full disk nor a power cut leaves half of one. Nothing in it can hold code.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_deploy import jsonio
from vgg_deploy.errors import (
    DigestMismatch,
    ResourceLimit,
    VggDeployError,
    by_the_system,
    os_errors,
)
from vgg_deploy.files import PARTIAL, sha256_of, staged, to_disk, usual_mode
from vgg_deploy.model.checkpoint import load_state
from vgg_deploy.train import best
from vgg_deploy.train.state import SCHEMA_VERSION, TrainState

if TYPE_CHECKING:
    import torch

FOLDER = "checkpoints"
KEPT = 2
JOB = "job.json"  # who started the run
TENSORS, STATE, COMPLETE = "tensors.safetensors", "state.json", "complete.json"
_NAME = re.compile(r"step-(\d{8,})")
# as Rust writes errno: a full disk, a quota, a file that may not grow
_NO_SPACE = re.compile(r"os error (28|122|27)\b")


@dataclass(frozen=True, kw_only=True)
class Complete:
    """Contents of ``complete.json``: SHA-256 of the files beside it."""

    tensors: str
    state: str


class Store:
    """The checkpoints of one run."""

    def __init__(self, run: Path) -> None:
        self.folder = run / FOLDER

    def save(self, state: TrainState, tensors: Mapping[str, torch.Tensor]) -> Path:
        """Write a checkpoint, then drop all but the newest two.

        Raises ``ResourceLimit`` when the disk is full; what was there before is intact then.
        """
        target = self.folder / f"step-{state.progress.step:08d}"
        with staged(target) as partial, os_errors(f"write {target}"):
            partial.mkdir()
            write_tensors(partial / TENSORS, tensors)
            (partial / STATE).write_text(jsonio.dumps(state) + "\n", encoding="utf-8")
            marker = Complete(
                tensors=sha256_of(partial / TENSORS), state=sha256_of(partial / STATE)
            )
            to_disk(partial / TENSORS, partial / STATE)
            (partial / COMPLETE).write_text(jsonio.dumps(marker) + "\n", encoding="utf-8")
            to_disk(partial / COMPLETE, partial)
            if target.exists():  # the same step again, after an epoch's end or a resume
                target.rename(partial.parent / "replaced")
            partial.rename(target)
            to_disk(self.folder)
        for old in self.found()[KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
        if best.kept(self.folder):
            self._drop_best()
        return target

    def _drop_best(self) -> None:
        """Drop the best epochs of which no checkpoint here speaks."""
        try:
            states = [jsonio.load(TrainState, path / STATE) for path in self.found()]
        except VggDeployError:  # a damaged one may speak of any
            return
        best.drop_unused(self.folder, {s.best_sha256 for s in states if s.best_sha256})

    def found(self) -> list[Path]:
        """Folders of checkpoints, newest first."""
        if not self.folder.is_dir():
            return []
        named = [p for p in self.folder.iterdir() if _NAME.fullmatch(p.name)]
        return sorted(named, key=lambda p: int(p.name.removeprefix("step-")), reverse=True)

    def newest(self) -> tuple[TrainState, dict[str, torch.Tensor], list[str]] | None:
        """The newest checkpoint that is intact, and what was wrong with newer ones.

        None where there is none at all; ``DigestMismatch`` where all are damaged.
        """
        problems: list[str] = []
        for path in self.found():
            if problem := _problem(path):
                problems.append(f"{path} {problem}")
                continue
            return *_read(path), problems
        if problems:
            raise DigestMismatch(
                f"no checkpoint is intact: {'; '.join(problems)}",
                f"restore one from a backup, or delete {self.folder} and start afresh",
            )
        return None

    def tidy(self) -> None:
        """Remove what a process that was killed while saving left behind."""
        for left in self.folder.glob(f"{PARTIAL}*"):
            shutil.rmtree(left, ignore_errors=True)

    def clear(self) -> None:
        """Remove all checkpoints, and their folder unless something else lies in it."""
        self.tidy()
        for path in (*self.found(), *best.kept(self.folder)):
            shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            (self.folder / JOB).unlink(missing_ok=True)
            self.folder.rmdir()


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """A safetensors file; ``ResourceLimit`` when the disk is full."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path)
        usual_mode(path)
    except SafetensorError as error:
        if not _NO_SPACE.search(str(error)):
            raise
        raise ResourceLimit(
            f"could not write {path.name}: the disk took no more bytes",
            "free some disk space and run it again (train: with --resume): the checkpoint before "
            "this one is intact",
        ) from error


def digest_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names and bytes, in order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _problem(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None; raises where it cannot be read at this moment."""
    if not (path / COMPLETE).is_file():
        return f"is not whole: it has no {COMPLETE}"
    try:
        marker = jsonio.load(Complete, path / COMPLETE)
    except VggDeployError as error:
        if by_the_system(error):
            raise
        return error.cause
    for name, digest in ((TENSORS, marker.tensors), (STATE, marker.state)):
        if not (path / name).is_file():
            return f"lacks {name}"
        with os_errors(f"read {path / name}"):
            if sha256_of(path / name) != digest:
                return f"was changed: {name} has another SHA-256"
    return None


def _read(path: Path) -> tuple[TrainState, dict[str, torch.Tensor]]:
    version = jsonio.Version(
        "schema_version",
        SCHEMA_VERSION,
        f"go on with the version that made it, or delete {path.parent} and start afresh",
    )
    return jsonio.load(TrainState, path / STATE, version), load_state(path / TENSORS)
