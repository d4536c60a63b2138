"""Which job trains in a folder, and since when: a restart of this very job, or another's run."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy import jsonio
from vgg_deploy.errors import VggDeployError, by_the_system, os_errors
from vgg_deploy.train.distributed import World
from vgg_deploy.train.store import FOLDER, JOB

FILE = JOB  # beside the checkpoints, and removed with them


@dataclass(frozen=True, kw_only=True)
class Job:
    """Contents of ``job.json``: who started the run and when it first did."""

    owner: str
    started: float  # seconds since 1970


def job_of(run: Path) -> Job | None:
    """Who started the run in a folder, where that is known."""
    try:
        return jsonio.load(Job, run / FOLDER / FILE)
    except VggDeployError as error:
        if by_the_system(error):
            raise
        return None


def owner_of(world: World) -> str:
    """What a job of several processes signs with; empty for one process without torchrun."""
    return f"torchrun {world.job}" if world.job else ""


def is_restart(run: Path, world: World) -> bool:
    """Whether torchrun started this very job again after it had begun to train in ``run``.

    A start that was refused leaves no note, so that its restart is refused, too.
    """
    job = job_of(run)
    return world.restarted and job is not None and job.owner == owner_of(world)


def note_job(run: Path, owner: str, world: World) -> float:
    """Note who trains from now on; gives the seconds since this job's first start."""
    path = run / FOLDER / FILE
    if is_restart(run, world) and (job := job_of(run)):
        return max(0.0, time.time() - job.started)
    if owner:
        jsonio.save(path, Job(owner=owner, started=time.time()))
    elif path.is_file():
        with os_errors(f"write {path}"):
            path.unlink()
    return 0.0
