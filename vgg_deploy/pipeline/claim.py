"""The folder ``training`` of a bundle: taken by one run at a time, and never somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from vgg_deploy.data.image_tree import holds_classes
from vgg_deploy.data.sources import is_folder
from vgg_deploy.errors import RefusedInput, UsageError, os_errors
from vgg_deploy.files import refuse_linked, shown
from vgg_deploy.manifest import has_manifest
from vgg_deploy.pipeline.board import FOLDER as BOARD
from vgg_deploy.pipeline.images_file import IMAGES_FILE
from vgg_deploy.pipeline.pictures import CONFUSION, CURVES, MISTAKES
from vgg_deploy.replacing import CHECKPOINTS, TRAINING, refuse_existing
from vgg_deploy.train.outcome import (
    BEST_FILE,
    EVALUATION_FILE,
    LAST_FILE,
    METRICS_FILE,
    PROFILE_FILE,
)

LOCK = ".run.lock"  # it stays behind a run that began: a sign that the folder is ours
SKIPPED_FILE = "skipped.txt"  # images that could not be read
_FILES = (METRICS_FILE, BEST_FILE, LAST_FILE, EVALUATION_FILE, PROFILE_FILE)
_NAMES = (*_FILES, SKIPPED_FILE, IMAGES_FILE, CURVES, CONFUSION, MISTAKES)


def refuse_inside(root: Path, data: str) -> None:
    """``UsageError`` where ``root`` is the folder of images ``data``, or lies among its classes.

    The pictures of the training would become images of a class, links followed.
    """
    if not is_folder(data) or not Path(data).is_dir():
        return
    with os_errors(f"read {shown(root)}"):
        place = root.resolve()
        is_data = place.exists() and place.samefile(data)
        inside = any(p.exists() and p.samefile(data) for p in place.parents)
        if is_data or (inside and holds_classes(Path(data), place)):
            where = "is" if is_data else "lies in"
            raise UsageError(
                f"{shown(root)} {where} the folder of the images, {shown(data)}",
                "choose a folder elsewhere with -o: its pictures would become images of a class",
            )


@contextmanager
def claimed(root: Path, *, replace: bool) -> Iterator[None]:
    """Hold the folder of ``root``'s training, so that no other run writes into it.

    Raises ``RefusedInput`` where a new bundle must not go, where the folder is somebody else's or
    a link, and while another run holds it. The system frees the lock of a process that was killed.
    """
    refuse_existing(root, replace=replace, own=(TRAINING,))
    folder = root / TRAINING
    refuse_linked(folder, root / CHECKPOINTS, folder / BOARD)
    _refuse_others(root)
    with held(folder):
        try:
            refuse_existing(root, replace=replace, own=(TRAINING,))  # it may have ended just now
            yield
        finally:
            _tidy(folder)


@contextmanager
def held(folder: Path, option: str = "-o") -> Iterator[None]:
    """Hold the folder of one run; ``RefusedInput`` while another one does.

    ``option`` is what chooses another folder.
    """
    with os_errors(f"write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise RefusedInput(
                f"another training is writing to {folder}",
                f"wait for it to end, stop it, or choose another folder with {option}",
            ) from error
    try:
        yield
    finally:
        lock.release()


def _refuse_others(root: Path) -> None:
    """Refuse a folder that no run of ours has made, but that holds what one would overwrite."""
    from vgg_deploy.train.best import kept  # these import torch
    from vgg_deploy.train.store import COMPLETE, FOLDER, JOB, STATE, TENSORS, Store

    folder = root / TRAINING
    steps = Store(folder).found()
    ours = any((step / name).exists() for step in steps for name in (TENSORS, STATE, COMPLETE))
    if ours or has_manifest(root) or (folder / LOCK).exists():
        return
    named = [folder / name for name in (*_NAMES, f"{FOLDER}/{JOB}")]
    taken = [path for path in (*named, *kept(folder / FOLDER), *steps) if path.exists()]
    if taken:
        more = f" and {len(taken) - 1} more" if len(taken) > 1 else ""
        raise RefusedInput(
            f"{root} is no bundle, but holds {taken[0].relative_to(root)}{more}, as a training "
            "would",
            "choose another folder with -o, or move that away: it would be overwritten",
        )


def _tidy(folder: Path) -> None:
    """Leave nothing behind where a run wrote no file; the lock is still held."""
    from vgg_deploy.train.store import FOLDER  # imports torch

    with suppress(OSError):
        if [path for path in folder.rglob("*") if not path.is_dir()] == [folder / LOCK]:
            (folder / LOCK).unlink()
            with suppress(OSError):
                (folder / FOLDER).rmdir()
            folder.rmdir()
