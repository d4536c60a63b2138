"""Kill one of four processes of a torchrun job, again and again, and see that it recovers.

    python scripts/check_ranks.py --kills 5 -o docs/results/ranks.json

One job of four gloo processes (``torchrun --max-restarts``) saves after every step. Each rank is
killed with SIGKILL so many times, in random order; torchrun starts all four again and they go
on from the last checkpoint. A kill counts as recovered when a checkpoint of a later step appears
within the limit, as ended when the job ends within it with another exit code than 0. At the end
the weights are compared with those of a job that nobody touched.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy import environment, jsonio
from vgg_deploy.files import sha256_of
from vgg_deploy.train.store import Store

LIMIT = 60.0  # seconds
JOB = shlex.split(
    "--arch 1x4-1x8 --width 1 --size 16 --fc-width 32 --data sample --max-images 2000 --batch 40 "
    "--precision fp32 --device cpu --deterministic --save-every 0"
)


@dataclass(frozen=True, kw_only=True)
class Kill:
    """One process that was killed."""

    rank: int
    after_step: int
    outcome: str  # recovered, ended, hung
    seconds: float  # from the kill to the next checkpoint, or to the end


@dataclass(frozen=True, kw_only=True)
class RanksReport:
    """The result file."""

    what: str
    made_at: str
    environment: environment.Environment
    command: str
    ranks: int
    limit_seconds: float
    kills: tuple[Kill, ...]
    good: int  # recovered or ended in time
    longest_seconds: float
    exit_code: int
    same_weights: bool  # as a job without kills


class Job:
    """A running torchrun."""

    def __init__(self, out: Path, ranks: int, epochs: int, restarts: int) -> None:
        self.out = out
        self.store = Store(out / "training")
        self.command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts",
            str(restarts), "--monitor-interval", "0.5", "--nproc-per-node", str(ranks),
            "-m", "vgg_deploy.train", *JOB, "--epochs", str(epochs), "-o", str(out),
        ]  # fmt: skip
        environment_ = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            self.command, env=environment_, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_error: object) -> None:
        """End torchrun, and with it its processes, if it still runs."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def step(self) -> int:
        """Of the newest checkpoint; 0 before the first."""
        found = self.store.found()
        return int(found[0].name.removeprefix("step-")) if found else 0

    def workers(self) -> dict[int, int]:
        """Rank to process id, of those that run now."""
        return workers_of(self.process.pid)

    def wait_beyond(self, step: int, seconds: float) -> str:
        """Until a later checkpoint, the end of the job, or the end of patience."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.step() > step:
                return "recovered"
            if (code := self.process.poll()) is not None:
                return "ended" if code else "finished"
            time.sleep(0.02)
        return "hung"


def workers_of(torchrun: int) -> dict[int, int]:
    """Rank to process id of the processes that a torchrun has started (Linux)."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            parent = (entry / "stat").read_text().rsplit(")", 1)[1].split()[1]
            if entry.name.isdigit() and int(parent) == torchrun:
                pairs = (entry / "environ").read_bytes().split(b"\0")
                ranks = [p for p in pairs if p.startswith(b"RANK=")]
                found.update({int(r[5:]): int(entry.name) for r in ranks})
        except (OSError, IndexError, ValueError):
            continue
    return found


def kill_all(job: Job, ranks: int, kills: int, seed: int) -> list[Kill]:
    """Kill every rank so many times."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    order = [rank for rank in range(ranks) for _ in range(kills)]
    dice.shuffle(order)
    done: list[Kill] = []
    for rank in order:
        job.wait_beyond(job.step() + dice.randint(0, 20), 300)
        target = job.workers().get(rank)
        if target is None:
            raise RuntimeError(f"rank {rank} does not run: the job ended with {job.process.poll()}")
        os.kill(target, signal.SIGKILL)
        start, reached = time.monotonic(), job.step() + 1  # one may be under way
        outcome = job.wait_beyond(reached, LIMIT)
        seconds = time.monotonic() - start
        if outcome == "hung":  # late is not good, but the others are to have their turn
            job.wait_beyond(reached, 300)
        done.append(Kill(rank=rank, after_step=reached - 1, outcome=outcome, seconds=seconds))
        print(f"{len(done)}: rank {rank} after step {reached - 1}: {outcome}, {seconds:.1f} s")
        sys.stdout.flush()
    return done


def check(ranks: int, kills: int, epochs: int, seed: int) -> RanksReport:
    """The job with kills and the job without."""
    root = Path(tempfile.mkdtemp(prefix="vgg-ranks-"))
    try:
        with Job(root / "killed", ranks, epochs, restarts=2 * ranks * kills) as job:
            rows = kill_all(job, ranks, kills, seed)
            code = job.process.wait(600)
        with Job(root / "alone", ranks, epochs, restarts=0) as alone:
            alone.process.wait(600)
        same = not code and all(
            sha256_of(root / "killed" / "training" / name)
            == sha256_of(root / "alone" / "training" / name)
            for name in ("best.safetensors", "last.safetensors")
        )
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return RanksReport(
        what="ranks of a torchrun job killed with SIGKILL",
        made_at=environment.now(),
        environment=environment.capture(),
        command="torchrun " + " ".join(job.command[3:-1]) + " BUNDLE",
        ranks=ranks,
        limit_seconds=LIMIT,
        kills=tuple(rows),
        good=sum(row.outcome in ("recovered", "ended") for row in rows),
        longest_seconds=max(row.seconds for row in rows),
        exit_code=code,
        same_weights=same,
    )


def main() -> None:
    """Parse, check, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--kills", type=int, default=5, help="per rank")
    parser.add_argument("--epochs", type=int, default=40, help="of 50 steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="JSON file")
    options = parser.parse_args()
    report = check(options.ranks, options.kills, options.epochs, options.seed)
    weights = "the same" if report.same_weights else "differ"
    print(
        f"{report.good} of {len(report.kills)} recovered or ended within {LIMIT:g} s, the longest "
        f"took {report.longest_seconds:.1f} s; weights {weights}"
    )
    if options.output:
        jsonio.save(options.output, report)
    sys.exit(report.good != len(report.kills) or not report.same_weights)


if __name__ == "__main__":
    main()
