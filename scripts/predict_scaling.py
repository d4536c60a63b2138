"""Measure a training step and an all-reduce on this machine; predict how many processes pay.

    python scripts/predict_scaling.py -o docs/results/scaling.json

Two gloo processes of one thread each, on one machine. Measured: the step of one process alone,
its gradient's all-reduce over 1, 2, ... processes for several sizes, and, to check the prediction,
the step of two processes together, and that of two which exchange nothing, which have each other's
memory traffic to bear alone. Predicted: a ring all-reduce of G bytes over n processes takes
2 (n - 1) a + 2 (n - 1) / n · G / b; latency a and bandwidth b are fitted to what was measured.
Two curves bound the truth: nothing of it, or all that fits, is hidden behind the backward pass.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import distributed as dist

from scripts.neighbours import MAX_OTHERS, Neighbours
from vgg_deploy import environment, jsonio
from vgg_deploy.data.fashion_mnist import load_dataset
from vgg_deploy.spec import ModelSpec
from vgg_deploy.train.distributed import World, joined
from vgg_deploy.train.hardware import tuned
from vgg_deploy.train.make import make_trainer
from vgg_deploy.train.options import TrainOptions
from vgg_deploy.train.recipes import RECIPES
from vgg_deploy.train.setup import card_for, place

CPU = torch.device("cpu")
WARM_UP, REDUCE_REPEATS = 2, 7
REDUCE_BYTES = (1 << 12, 1 << 18, 1 << 22, 1 << 25)
PROCESSES = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Examples per second of n processes, relative to one."""

    processes: int
    speedup_nothing_hidden: float
    speedup_all_hidden: float


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """The result file; times are medians."""

    what: str
    made_at: str
    environment: environment.Environment
    network: str
    batch_per_process: int
    gradient_bytes: int
    step_ms: float  # one process alone
    backward_ms: float
    reduce_ms: Mapping[int, float]  # bytes to time, two processes
    latency_ms: float  # fitted
    bandwidth_gb_per_s: float
    two_processes_step_ms: float  # measured, two that exchange their gradients
    two_processes_speedup: float  # measured
    predicted: tuple[Predicted, ...]
    others: float | None  # share of all cores that other programs took; None: not known
    assumptions: tuple[str, ...]
    beside_step_ms: float | None = None  # measured, two at once that exchange nothing


ASSUMPTIONS = (
    "every process has a core, or a GPU, of its own and a batch like the one that was measured",
    "the links between all processes are like the one that was measured: loopback on one machine",
    "a ring all-reduce; gloo and NCCL may choose a better one",
    "neither testing nor saving is counted: once per epoch, by one process",
)


def step_times(options: argparse.Namespace, world: World) -> tuple[float, float, int]:
    """Median seconds of a step and of its backward pass, and bytes of the gradient."""
    data = load_dataset("sample")
    spec = ModelSpec.named(
        options.arch, width=options.width, size=options.size, channels=1, classes=10
    )
    recipe = RECIPES["modern"]
    card = card_for(spec, recipe, data)
    asked = TrainOptions(batch=options.batch * world.size, lr=1e-3, device="cpu", epochs=1)
    trainer = make_trainer(card, asked, CPU, world)
    pixels, labels = place(data.train.take(options.batch), card, CPU)
    trainer.network.train()
    steps, backward = [], []
    for _ in range(WARM_UP + options.steps):
        trainer.phases.begin()
        start = time.perf_counter()
        trainer.step(pixels, labels, trainer.batch)
        steps.append(time.perf_counter() - start)
        backward.append(trainer.phases.end()["backward"])
    size = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    return median(steps[WARM_UP:]), median(backward[WARM_UP:]), size


def reduce_times() -> dict[int, float]:
    """Median seconds of an all-reduce, by bytes."""
    found = {}
    for size in REDUCE_BYTES:
        values, times = torch.ones(size // 4), []
        for _ in range(REDUCE_REPEATS):
            dist.barrier()
            start = time.perf_counter()
            dist.all_reduce(values)
            times.append(time.perf_counter() - start)
        found[size] = median(times[1:])
    return found


def one_rank(
    rank: int, port: int, options: argparse.Namespace, said: Connection
) -> None:  # in a process of its own
    """Measure as one of two; rank 0 says what it saw."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    with joined(CPU) as world, tuned(CPU):
        reduced = reduce_times()
        step, _, _ = step_times(options, world)
        dist.barrier()
        beside, _, _ = step_times(options, World())
        dist.barrier()  # neither is left alone before the other is done
    if rank == 0:
        said.send((reduced, step, beside))
    said.close()


def alone(_rank: int, _port: int, options: argparse.Namespace, said: Connection) -> None:
    """Measure one process with one thread."""
    torch.set_num_threads(1)
    with tuned(CPU):
        said.send(step_times(options, World()))
    said.close()


def in_processes(count: int, target: Callable[..., None], options: argparse.Namespace) -> Any:
    """What the first of ``count`` processes says."""
    context = multiprocessing.get_context("spawn")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here, there = context.Pipe(duplex=False)
    processes = [
        context.Process(target=target, args=(rank, port, options, there)) for rank in range(count)
    ]
    for process in processes:
        process.start()
    there.close()
    try:
        return here.recv()
    finally:
        for process in processes:
            process.join(60)
            process.kill()


def fitted(times: Mapping[int, float], processes: int) -> tuple[float, float]:
    """Latency (s) and bandwidth (bytes/s) of the ring model, by least relative squares."""
    sizes, seconds = np.array(list(times), float), np.array(list(times.values()))
    hops = 2 * (processes - 1)
    rows = np.stack([np.full_like(sizes, hops), hops / processes * sizes], 1) / seconds[:, None]
    latency, per_byte = np.linalg.lstsq(rows, np.ones_like(sizes), rcond=None)[0]
    return max(0.0, float(latency)), 1 / max(1e-15, float(per_byte))


def ring(processes: int, size: float, latency: float, bandwidth: float) -> float:
    """Seconds of a ring all-reduce."""
    return 2 * (processes - 1) * (latency + size / processes / bandwidth)


def predict(
    step: float, backward: float, size: float, latency: float, bandwidth: float
) -> tuple[Predicted, ...]:
    """Both bounds for every number of processes."""
    rows = []
    for count in PROCESSES:
        reduce = ring(count, size, latency, bandwidth)
        rows.append(
            Predicted(
                processes=count,
                speedup_nothing_hidden=count * step / (step + reduce),
                speedup_all_hidden=count * step / (step + max(0.0, reduce - backward)),
            )
        )
    return tuple(rows)


def measure(options: argparse.Namespace) -> Scaling:
    """Measure alone and in two processes, fit, predict."""
    with Neighbours() as neighbours:
        step, backward, size = in_processes(1, alone, options)
        reduced, together, beside = in_processes(2, one_rank, options)
    latency, bandwidth = fitted(reduced, 2)
    return Scaling(
        what="training on several processes: measured with one and two, predicted for more",
        made_at=environment.now(),
        environment=environment.capture(),
        network=f"{options.arch}, width {options.width:g}, {options.size} px",
        batch_per_process=options.batch,
        gradient_bytes=size,
        step_ms=1000 * step,
        backward_ms=1000 * backward,
        reduce_ms={k: 1000 * v for k, v in reduced.items()},
        latency_ms=1000 * latency,
        bandwidth_gb_per_s=bandwidth / 1e9,
        beside_step_ms=1000 * beside,
        two_processes_step_ms=1000 * together,
        two_processes_speedup=2 * step / together,
        predicted=predict(step, backward, size, latency, bandwidth),
        others=neighbours.share,
        assumptions=ASSUMPTIONS,
    )


def main(words: Sequence[str] | None = None) -> None:
    """Parse, measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--arch", default="vgg11")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch", type=int, default=64, help="per process")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("-o", "--output", type=Path, help="JSON file")
    options = parser.parse_args(words)
    found = measure(options)
    print(
        f"step {found.step_ms:.0f} ms, gradient {found.gradient_bytes / 1e6:.0f} MB, all-reduce "
        f"{found.latency_ms:.2f} ms + {found.bandwidth_gb_per_s:.2f} GB/s; two processes: "
        f"{found.two_processes_speedup:.2f}× measured, {found.two_processes_step_ms:.0f} ms a step"
    )
    if found.beside_step_ms is not None:  # older files lack it
        print(f"two processes that exchange nothing: {found.beside_step_ms:.0f} ms a step")
    if found.others is not None and found.others > MAX_OTHERS:
        print(f"other programs took {found.others:.0%} of all cores: let nothing else run")
    for row in found.predicted:
        print(
            f"{row.processes:3d} processes: {row.speedup_nothing_hidden:.1f}× to "
            f"{row.speedup_all_hidden:.1f}×"
        )
    if options.output:
        jsonio.save(options.output, found)


if __name__ == "__main__":
    main()
