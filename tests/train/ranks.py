"""Several processes that train together, forked from one that has imported torch already."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.conftest import make_card
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.options import RunControl, TrainOptions
from vgg_deploy.train.outcome import Silent

if TYPE_CHECKING:
    from torch import Tensor

    from vgg_deploy.model.vgg import VGG

IMAGES, BATCH = 99, 33  # neither 2 nor 4 divides a batch


class Watch(Silent):
    """Notes every step; sends this process a signal, or stands still, after one of them."""

    def __init__(self, folder: Path, signals: dict[int, signal.Signals], pause: float) -> None:
        self._file = folder / f"steps-{os.environ.get('RANK', '0')}"
        self._signals, self._pause, self._steps = signals, pause, 0

    def on_step(self, done_images: int, total_images: int, loss: float, /) -> None:
        self._steps += 1
        with self._file.open("a") as file:
            file.write(json.dumps([done_images, loss]) + "\n")
        time.sleep(self._pause)
        if number := self._signals.get(self._steps):
            os.kill(os.getpid(), number)


def network() -> ModelCard:
    """Without dropout, whose masks differ between processes."""
    card = make_card("1x4-1x8", size=16)
    return replace(card, spec=replace(card.spec, dropout=0.0))


def options(**changes: object) -> TrainOptions:
    defaults = {"recipe": "plain", "epochs": 2, "batch": BATCH, "precision": "fp32"}
    chosen = {**defaults, "device": "cpu", **changes}
    if chosen["recipe"] == "plain":  # momentum and one cycle, no augmentation
        chosen["recipe"] = "modern"
    return TrainOptions(**chosen)  # type: ignore[arg-type]


def one_rank(  # runs in a process of its own
    rank: int,
    size: int,
    port: int,
    folder: str,
    changes: dict[str, object],
    control: RunControl,
    signals: dict[int, signal.Signals],
    pause: float,
) -> None:
    """Train as one of ``size``; the exit code is that of the command line."""
    import sys

    from tests.train.conftest import cut
    from vgg_deploy.errors import VggDeployError
    from vgg_deploy.train import loop
    from vgg_deploy.train.recipes import RECIPES

    if size > 1:
        os.environ.update(
            RANK=str(rank),
            WORLD_SIZE=str(size),
            LOCAL_RANK=str(rank),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
    tested = int(str(changes.pop("tested", 40)))  # images
    note_testing(Path(folder) / f"tested-{rank}")
    plain = replace(RECIPES["modern"], flip=False, shift=0.0)
    RECIPES["modern"] = plain  # type: ignore[index] # this process alone
    try:
        loop.train(
            network(),
            cut(IMAGES, tested),
            options(**changes),
            Path(folder) / "run",
            Watch(Path(folder), signals, pause),
            control,
        )
    except VggDeployError as error:
        (Path(folder) / f"error-{rank}").write_text(f"{error.cause}\n{error.remedy}")
        sys.exit(error.exit_code)


def note_testing(file: Path) -> None:
    """Write down how many images this process tests at once."""
    from vgg_deploy.train import epoch

    plain = epoch._classified

    def noted(model: VGG, pixels: Tensor, *given: Any) -> tuple[Tensor, Tensor, Tensor]:
        with file.open("a") as lines:
            lines.write(f"{len(pixels)}\n")
        return plain(model, pixels, *given)

    epoch._classified = noted  # type: ignore[assignment]


class Ranks:
    """The processes of one run."""

    def __init__(
        self,
        size: int,
        folder: Path,
        *,
        control: RunControl | None = None,
        signals: dict[int, dict[int, signal.Signals]] | None = None,
        pause: float = 0.0,
        others: RunControl | None = None,  # of all but rank 0
        **changes: object,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["vgg_deploy.train.loop", "torch.nn.parallel"])
        port = free_port()
        self.processes: list[BaseProcess] = []
        for rank in range(size):
            told = (signals or {}).get(rank, {})
            driven = (others if rank else None) or control or RunControl()
            arguments = (
                rank, size, port, str(folder), changes, driven, told, pause
            )  # fmt: skip
            process = context.Process(target=one_rank, args=arguments)
            process.start()
            self.processes.append(process)

    def wait(self, seconds: float = 120) -> list[int | None]:
        """Exit codes; who has not ended by then is killed and fails the test."""
        end = time.monotonic() + seconds
        for process in self.processes:
            process.join(max(0.1, end - time.monotonic()))
        codes = [process.exitcode for process in self.processes]
        for process in self.processes:
            process.kill()
        assert None not in codes, f"still running after {seconds} s"
        return codes

    def reached(self, step: int, seconds: float = 120) -> None:
        """Wait until rank 0 has made so many steps."""
        file, end = self.folder / "steps-0", time.monotonic() + seconds
        while time.monotonic() < end:
            if file.exists() and len(file.read_text().splitlines()) >= step:
                return
            time.sleep(0.02)
        raise AssertionError(f"step {step} was not reached in {seconds} s")

    def error(self, rank: int) -> str:
        return (self.folder / f"error-{rank}").read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
