"""Interrupt training at random steps, resume it, and compare the bits with a run left alone.

    python scripts/check_restart.py --trials 50 -o docs/results/restart.json

Each trial is a process of its own that gets SIGTERM, SIGINT or SIGKILL after a random step, is
resumed, sometimes interrupted again, and runs to its end. A digest covers every tensor of
the last checkpoint (weights, batch norm, their averages, momentum), the best epoch's file and all
figures of all epochs but their times. Batch norm, averages, dropout, flips, shifts and one cycle
are on.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from vgg_deploy import environment, jsonio
from vgg_deploy.errors import Interrupted
from vgg_deploy.train.options import RunControl, TrainOptions
from vgg_deploy.train.outcome import Silent

ARCH, SIZE, IMAGES, BATCH, EPOCHS = "1x4-1x8_bn", 16, 200, 10, 3
STEPS = EPOCHS * IMAGES // BATCH
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
FINISHED, STOPPED = 0, 130


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run that was interrupted once or more."""

    interruptions: tuple[str, ...]  # signal and step after which it was sent
    exit_codes: tuple[int, ...]  # of each process; negative: the signal that killed it
    first_steps: tuple[int | None, ...]  # of each process; None: it had none left to do
    save_every: float  # minutes
    seconds: float
    digest: str


@dataclass(frozen=True, kw_only=True)
class RestartReport:
    """The result file."""

    what: str
    made_at: str
    environment: environment.Environment
    network: str
    steps: int
    uninterrupted_digest: str
    trials: tuple[Trial, ...]
    interruptions: int
    same: int  # trials whose digest is that of the run left alone


def child(folder: str, save_every: float, resume: bool, said: Connection) -> None:
    """Train in this process; says every step and exits as the command line does."""
    from vgg_deploy.data.fashion_mnist import load_dataset
    from vgg_deploy.spec import ModelSpec
    from vgg_deploy.train.loop import train
    from vgg_deploy.train.setup import card_for

    class Teller(Silent):
        def on_step(self, done_images: int, total_images: int, loss: float, /) -> None:
            del total_images, loss
            said.send(done_images // BATCH)

    data = load_dataset("sample")
    data = replace(data, train=data.train.take(IMAGES), test=data.test.take(50))
    options = TrainOptions(
        recipe="fine-tune",  # of all recipes the one that draws most random numbers
        epochs=EPOCHS,
        batch=BATCH,
        precision="fp32",
        device="cpu",
        deterministic=True,
        ema=0.99,
    )
    spec = ModelSpec.named(ARCH, size=SIZE, channels=1, classes=10, fc_width=32)
    card = card_for(spec, options.chosen, data)
    control = RunControl(save_every=save_every, resume="may" if resume else "no")
    try:
        train(card, data, options, Path(folder), Teller(), control)
    except Interrupted as error:
        sys.exit(error.exit_code)


def run_trial(folder: Path, plan: list[tuple[signal.Signals, int]], save_every: float) -> Trial:
    """Run with interruptions (signal, step), then to the end."""
    start = time.perf_counter()
    codes: list[int] = []
    firsts: list[int | None] = []
    for wanted in [*plan, None]:
        code, first = _one_process(folder, save_every, bool(codes), wanted)
        codes.append(code)
        firsts.append(first)
    if codes[-1] != FINISHED:
        raise RuntimeError(f"the resumed run ended with {codes[-1]}")
    return Trial(
        interruptions=tuple(f"{number.name} after step {step}" for number, step in plan),
        exit_codes=tuple(codes),
        first_steps=tuple(firsts),
        save_every=save_every,
        seconds=time.perf_counter() - start,
        digest=final_digest(folder),
    )


def _one_process(
    folder: Path, save_every: float, resume: bool, wanted: tuple[signal.Signals, int] | None
) -> tuple[int, int | None]:
    """Exit code and first step of one process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vgg_deploy.train.loop"])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(str(folder), save_every, resume, there))
    process.start()
    there.close()
    sent, first = False, None
    try:
        while True:
            step = here.recv()
            first = first or step
            if wanted and not sent and step >= wanted[1] and process.pid:
                os.kill(process.pid, wanted[0])
                sent = True
    except (EOFError, ConnectionResetError):
        process.join()
    return process.exitcode or FINISHED, first


def final_digest(folder: Path) -> str:
    """Every bit that a finished run leaves, but for the times."""
    from vgg_deploy.train.store import Store, digest_of

    found = Store(folder).newest()
    if found is None:
        raise RuntimeError(f"no checkpoint in {folder}")
    state, tensors, _ = found
    rows = [replace(row, seconds=0.0, examples_per_second=0.0) for row in state.rows]
    digest = hashlib.sha256(digest_of(tensors).encode())
    digest.update((folder / "best.safetensors").read_bytes())
    digest.update((folder / "last.safetensors").read_bytes())
    digest.update("\n".join(jsonio.dumps(row, indent=None) for row in rows).encode())
    return digest.hexdigest()


def check(trials: int, seed: int = 0) -> RestartReport:
    """Run all trials; each signal has its turn, every fifth trial is interrupted twice."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    rows: list[Trial] = []
    root = Path(tempfile.mkdtemp(prefix="vgg-restart-"))
    try:
        alone = run_trial(root / "alone", [], 10.0)
        for index in range(trials):
            times = 2 if index % 5 == 4 else 1
            steps = sorted(dice.sample(range(1, STEPS), times))
            plan = [(SIGNALS[(index + i) % len(SIGNALS)], step) for i, step in enumerate(steps)]
            folder = root / f"trial-{index}"
            rows.append(run_trial(folder, plan, dice.choice((0.0, 0.0005, 0.002, 10.0))))
            shutil.rmtree(folder)
            same = "same" if rows[-1].digest == alone.digest else "DIFFERENT"
            print(f"{index + 1}: {', '.join(rows[-1].interruptions)}: {same}", flush=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return RestartReport(
        what="training interrupted at random steps and resumed, against a run left alone",
        made_at=environment.now(),
        environment=environment.capture(),
        network=f"{ARCH} at {SIZE} px, {IMAGES} images, batch {BATCH}, {EPOCHS} epochs",
        steps=STEPS,
        uninterrupted_digest=alone.digest,
        trials=tuple(rows),
        interruptions=sum(len(row.interruptions) for row in rows),
        same=sum(row.digest == alone.digest for row in rows),
    )


def main() -> None:
    """Parse, check, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="JSON file")
    options = parser.parse_args()
    report = check(options.trials, options.seed)
    print(f"{report.same} of {len(report.trials)} have the bits of the run left alone")
    if options.output:
        jsonio.save(options.output, report)
    sys.exit(report.same != len(report.trials))


if __name__ == "__main__":
    main()
