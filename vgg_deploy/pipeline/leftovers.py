"""What an earlier run left in its folder and the next one may not write again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from vgg_deploy.errors import os_errors
from vgg_deploy.manifest import has_manifest
from vgg_deploy.pipeline.board import EVENTS
from vgg_deploy.pipeline.board import FOLDER as BOARD
from vgg_deploy.pipeline.pictures import CONFUSION, CURVES, MISTAKES
from vgg_deploy.replacing import TRAINING
from vgg_deploy.train.outcome import PROFILE_FILE, EpochRow, Listener, RunPlan


def left_behind(root: Path) -> tuple[Path, ...]:
    """Profile, pictures and event files of a run that was here, by the names they are given.

    None where no run of ours can have been: ``root`` is no bundle and holds no checkpoints.
    """
    from vgg_deploy.train.store import Store  # imports torch

    folder = root / TRAINING
    if not has_manifest(root) and not Store(folder).found():
        return ()
    named = [folder / name for name in (PROFILE_FILE, CURVES, CONFUSION, MISTAKES)]
    return tuple(path for path in (*named, *(folder / BOARD).glob(EVENTS)) if path.is_file())


class Clearing:
    """Passes on what it is told, and removes ``left`` when a run starts that resumes none.

    Not before: a run that cannot start leaves the files beside the bundle that they are of.
    ``begins`` is called then, too, of a run that is resumed as well.
    """

    def __init__(
        self, left: Sequence[Path], listener: Listener, begins: Callable[[], None] = lambda: None
    ) -> None:
        self._left, self._listener, self._begins = left, listener, begins

    def on_start(self, plan: RunPlan, /) -> None:
        """Remove them, unless they are of this very run."""
        if not plan.done_images:
            for path in self._left:
                with os_errors(f"remove {path}"):
                    path.unlink(missing_ok=True)
            for folder in {path.parent for path in self._left if path.parent.name == BOARD}:
                with suppress(OSError):  # files of others are there
                    folder.rmdir()
        self._begins()
        self._listener.on_start(plan)

    def on_step(self, done_images: int, total_images: int, loss: float, /) -> None:
        """Pass it on."""
        self._listener.on_step(done_images, total_images, loss)

    def on_epoch(self, row: EpochRow, /) -> None:
        """Pass it on."""
        self._listener.on_epoch(row)

    def on_note(self, text: str, /) -> None:
        """Pass it on."""
        self._listener.on_note(text)
