"""Go on with a run that was interrupted, or refuse to throw it away."""

from __future__ import annotations

from pathlib import Path

import torch

from vgg_deploy.errors import RefusedInput
from vgg_deploy.train.best import put_back
from vgg_deploy.train.distributed import World
from vgg_deploy.train.job import is_restart, job_of, note_job, owner_of
from vgg_deploy.train.outcome import BEST_FILE, MAIN_JOB, best_of
from vgg_deploy.train.run import Run
from vgg_deploy.train.state import TrainState, require_same, restore

Found = tuple[TrainState, dict[str, torch.Tensor], list[str]]


def resume(run: Run, world: World) -> None:
    """Go on from the newest checkpoint where that is wanted; rank 0 reads, all get it.

    The time limit counts from the first start of a job, whatever torchrun has restarted.
    """
    spent = float(world.same_text(str(_read(run, world)) if world.main else ""))
    run.synchronise()
    run.stop.spent = spent
    minutes = run.control.max_minutes
    if minutes and spent >= 60 * minutes and run.progress.step:  # the same on all processes
        run.stop.timed_out = True
        raise run.stopped()


def _read(run: Run, world: World) -> float:
    """Take the newest checkpoint, on rank 0; gives the seconds this job has had before."""
    wish, again = run.control.resume, is_restart(run.folder, world)
    run.store.tidy()
    if wish == "no" and not again:
        _clear(run)
    found = _own(run) if wish == "may" and not again else run.store.newest()
    if found is None and wish == "must":
        raise RefusedInput(
            f"there is nothing to resume in {run.folder}",
            "start the run without --resume; a finished run leaves no checkpoints",
        )
    if found:
        require_same(found[0].identity, run.identity)
    spent = note_job(run.folder, owner_of(world) or (MAIN_JOB if wish == "may" else ""), world)
    if found:
        _take(run, found)
    return spent


def _clear(run: Run) -> None:
    """Drop what an earlier run left; refuse to, where its work is not to be thrown away."""
    if run.control.keep_unfinished and run.store.found():
        raise RefusedInput(
            f"{run.folder} holds a run that was interrupted",
            "go on with --resume, or start afresh with --replace",
        )
    run.store.clear()


def _own(run: Run) -> Found | None:
    """The newest checkpoint, if it is of this run.

    Another one that the main job had begun is dropped, anybody else's is refused.
    """
    job = job_of(run.folder)
    ours = job is not None and job.owner == MAIN_JOB
    try:
        found = run.store.newest()
        if found is None or found[0].identity == run.identity:
            return found
    except RefusedInput:  # of another version
        if not ours:
            raise
    if not ours:
        raise RefusedInput(
            f"{run.folder} holds another run that was interrupted",
            f"go on with vgg-deploy train --resume, choose another folder with -o, or delete "
            f"{run.store.folder}",
        )
    run.store.clear()
    return None


def _take(run: Run, found: Found) -> None:
    state, tensors, problems = found
    for problem in problems:
        run.listener.on_note(f"{problem}; the one before it is used")
    restore(run.trainer, tensors)
    run.take(state)
    _require_best(run, run.store.folder)


def _require_best(run: Run, checkpoints: Path) -> None:
    """best.safetensors must be the one the checkpoint speaks of, unless it is about to be made."""
    rows, path = tuple(run.rows), run.folder / BEST_FILE
    if not rows or (run.progress.batches == 0 and best_of(rows) is rows[-1]):
        return
    digest = run.best_sha256
    if not (put_back(run.folder, checkpoints, digest) if digest else path.is_file()):
        raise RefusedInput(
            f"{path}, the best epoch of the run to be resumed, is missing or was changed",
            "restore it, or start afresh with --replace",
        )
