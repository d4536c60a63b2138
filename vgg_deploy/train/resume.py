"""Go on with a run that was interrupted, or refuse to throw it away."""

from __future__ import annotations

import torch

from vgg_deploy.errors import DigestMismatch, RefusedInput, by_the_system
from vgg_deploy.files import word
from vgg_deploy.train.best import put_back
from vgg_deploy.train.distributed import World
from vgg_deploy.train.identity import differences, require_same
from vgg_deploy.train.job import is_restart, job_of, note_job, owner_of
from vgg_deploy.train.outcome import BEST_FILE, MAIN_JOB, best_of
from vgg_deploy.train.run import Run
from vgg_deploy.train.state import TrainState, restore

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
    if run.control.keep_unfinished != "none" and run.store.found():
        _let_go(run)
    run.store.clear()


def _let_go(run: Run) -> None:
    """Say what is dropped of an interrupted run, or refuse to drop it."""
    try:
        found = run.store.newest()
    except (RefusedInput, DigestMismatch) as error:  # also of another version
        if by_the_system(error):
            raise
        found = None
    what, step = f"{run.folder} holds a run that was interrupted", ""
    if found:
        step = f" after step {found[0].progress.step}"
        if not differences(found[0].identity, run.identity):
            raise RefusedInput(
                f"{what}{step}, which these options would go on with",
                f"go on with --resume; to start afresh delete {run.store.folder}",
            )
    if run.control.keep_unfinished == "all":
        raise RefusedInput(
            f"{what}{step}{', with other options' if found else ''}",
            "go on with its options and --resume, or start afresh with --replace",
        )
    run.listener.on_note(f"dropped: {what}{step}")


def _own(run: Run) -> Found | None:
    """The newest checkpoint, if it is of this run and can be gone on with.

    What else the main job had begun is dropped, and that is said; anybody else's is refused, and
    so is what cannot be read at this moment.
    """
    job = job_of(run.folder)
    try:
        found = run.store.newest()
        if found:
            _require_this(run, found[0])
    except (RefusedInput, DigestMismatch) as error:  # also of another version
        if job is None or job.owner != MAIN_JOB or by_the_system(error):
            raise
        run.listener.on_note(f"{error.cause}: dropped, the run starts afresh")
        run.store.clear()
        return None
    return found


def _require_this(run: Run, state: TrainState) -> None:
    if differences(state.identity, run.identity):
        raise RefusedInput(
            f"{run.folder} holds another run that was interrupted",
            "go on with the command that began it, with --resume, choose another folder with -o, "
            f"or delete {word(run.store.folder)}",
        )
    _require_best(run, state)


def _take(run: Run, found: Found) -> None:
    state, tensors, problems = found
    _require_best(run, state)
    for problem in problems:
        run.listener.on_note(f"{problem}; the one before it is used")
    restore(run.trainer, tensors)
    run.take(state)


def _require_best(run: Run, state: TrainState) -> None:
    """best.safetensors must be the one the checkpoint speaks of, unless it is about to be made."""
    rows, path, checkpoints = state.rows, run.folder / BEST_FILE, run.store.folder
    if not rows or (state.progress.batches == 0 and best_of(rows) is rows[-1]):
        return
    digest = state.best_sha256
    if not (put_back(run.folder, checkpoints, digest) if digest else path.is_file()):
        raise RefusedInput(
            f"{path}, the best epoch of the run to be resumed, is missing or was changed",
            f"restore it, or delete {checkpoints} and start afresh",
        )
