"""What the timing loop itself costs, and whether its numbers are those of a plain loop.

    python -m scripts.bench_overhead -o docs/results/bench_overhead.json

*overhead*: the fake backend at its cheapest, one pixel in and two logits out, by ``measure`` and by
a plain loop over the same bound run, in turns and in random order. ``whole_query_ns`` is all the
time of the timed phase divided by its runs, ``timed_ns`` the median of what was timed, ``plain_ns``
a query of the plain loop: the backend's own run. ``added_ns``, whole less plain, is what the loop
costs, inside a sample and between two, and is judged by ``limit_ns``; all are medians over the
turns. *ort-cpu*: the median latency of a small VGG in ONNX Runtime, by ``vgg_deploy.bench`` and by
the loop one would write without it (an InferenceSession with IO binding, ``perf_counter`` around
``run_with_iobinding``), in turns and in random order.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from statistics import median
from typing import Any

import numpy as np

from scripts.bench_comparison import small_bundle
from vgg_deploy import environment
from vgg_deploy.artifact import Artifact, TensorSpec
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Array, Session
from vgg_deploy.backends.fake import FakeBackend
from vgg_deploy.bench.measure import Instruments, MeasureOptions, measure, no_garbage_collection
from vgg_deploy.bench.paired import paired
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import threads
from vgg_deploy.files import write_text

OVERHEAD_LIMIT_NS = 5_000
AGREEMENT_LIMIT = 0.02
PIXEL = np.zeros((1, 1, 1, 1), np.float32)
_FIGURES = ("whole_query_ns", "timed_ns", "plain_ns", "added_ns")
_UNCLOCKED = 1000  # queries of the plain loop between two looks at the clock


def smallest(root: Path) -> Artifact:
    """What the fake backend runs fastest: one pixel in, two logits out."""
    path = PurePosixPath("fake.onnx")
    (root / path).write_text("no runtime reads it", encoding="utf-8")
    pixel = TensorSpec(name="input", dtype="float32", shape=("batch", 1, 1, 1), layout="NCHW")
    logits = TensorSpec(name="logits", dtype="float32", shape=("batch", 2), layout="NC")
    return Artifact(
        path=path, format="onnx", precision="fp32", input=pixel, output=logits, target=None,
        sha256="", size_bytes=0, parent=None, made_by={},
    )  # fmt: skip


def overhead(rounds: int, seconds: float) -> dict[str, Any]:
    """Nanoseconds per query of the fake backend, by ``measure`` and by a plain loop."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with FakeBackend().open(smallest(folder), folder) as session:
            bare(session, PIXEL, seconds)  # warm-up, so that the first turn is like the others
            turns = [both(session, order, seconds) for order in orders(rounds)]
    middle = {key: round(median(turn[key] for turn in turns), 1) for key in _FIGURES}
    return {
        "queries": sum(turn["queries"] for turn in turns),
        **middle,
        "added_ns_of_turns": [round(turn["added_ns"], 1) for turn in turns],
        "limit_ns": OVERHEAD_LIMIT_NS,
        "holds": middle["added_ns"] < OVERHEAD_LIMIT_NS,
    }


def both(session: Session, order: Sequence[str], seconds: float) -> dict[str, Any]:
    """One turn of each loop."""
    plain = whole = 0.0
    samples: tuple[int, ...] = ()
    for name in order:
        if name == "plain":
            plain = bare(session, PIXEL, seconds)
        else:
            options = MeasureOptions(min_seconds=seconds, percentile=99)
            whole, samples = queried(session, PIXEL, options)
    values = (whole, median(samples), plain, whole - plain)
    return {"queries": len(samples), **dict(zip(_FIGURES, values, strict=True))}


def queried(
    session: Session, batch: Array, options: MeasureOptions
) -> tuple[float, tuple[int, ...]]:
    """``measure``: nanoseconds of the timed phase per run, and what it timed."""
    stamps: list[int] = []  # measure looks at the load just before that phase and just after
    looked = Instruments(look=lambda: stamps.append(time.perf_counter_ns()))
    samples = measure(session, batch, options, looked).samples_ns
    begin, end = stamps
    return (end - begin) / len(samples), samples


def bare(session: Session, batch: Array, seconds: float) -> float:
    """Nanoseconds per query of a loop that does nothing but run and sync."""
    run, sync = session.bind(batch), session.sync
    spent = runs = 0
    with no_garbage_collection():
        while spent < 1e9 * seconds:
            begin = time.perf_counter_ns()
            for _ in range(_UNCLOCKED):
                run()
                sync()
            spent += time.perf_counter_ns() - begin
            runs += _UNCLOCKED
    return spent / runs


def orders(rounds: int) -> Iterator[list[str]]:
    """Who comes first in each round."""
    shuffle = random.Random(0).shuffle  # noqa: S311
    for _ in range(rounds):
        order = ["ours", "plain"]
        shuffle(order)
        yield order


def plain_loop(path: Path, batch: Array, seconds: float) -> float:
    """Median nanoseconds of the loop one would write oneself."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads()
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, batch)
    binding.bind_output(session.get_outputs()[0].name, "cpu")
    warm = time.perf_counter() + 0.2
    while time.perf_counter() < warm:
        session.run_with_iobinding(binding)
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        session.run_with_iobinding(binding)
        times.append(time.perf_counter() - begin)
    return 1e9 * median(times)


def our_bench(bundle: Bundle, onnx: Artifact, batch: Array, seconds: float) -> float:
    """Median nanoseconds as vgg-deploy measures it."""
    with get_backend("ort-cpu").open(onnx, bundle.root) as session:
        found = measure(session, batch, MeasureOptions(min_seconds=seconds, percentile=50))
    return median(found.samples_ns)


def agreement(rounds: int, seconds: float) -> dict[str, Any]:
    """Ratio of our median to the plain loop's, paired by round."""
    with tempfile.TemporaryDirectory() as folder:
        bundle, onnx = small_bundle(Path(folder) / "bundle")
        spec = bundle.card.spec
        batch = np.zeros((1, spec.channels, spec.size, spec.size), np.float32)
        pairs = []
        for order in orders(rounds):
            found = {}
            for name in order:
                if name == "ours":
                    found[name] = our_bench(bundle, onnx, batch, seconds)
                else:
                    found[name] = plain_loop(bundle.path(onnx), batch, seconds)
            pairs.append((found["ours"], found["plain"]))
            print(f"\r{len(pairs)} of {rounds}: {found['ours'] / found['plain']:.4f}", end="")
    print()
    ratio = paired([float(np.log(a / b)) for a, b in pairs])
    return {
        "ours_ns": [round(a) for a, _ in pairs],
        "plain_ns": [round(b) for _, b in pairs],
        "ratio": ratio.ratio,
        "interval": [ratio.low, ratio.high],
        "limit": AGREEMENT_LIMIT,
        "holds": abs(ratio.ratio - 1) < AGREEMENT_LIMIT,
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=1.0, help="per turn")
    parser.add_argument("-o", "--out", type=Path, help="JSON file")
    args = parser.parse_args(words)
    document = {
        "made_at": environment.now(),
        "environment": asdict(environment.capture()),
        "overhead": overhead(args.rounds, args.seconds / 4),
        "ort_cpu": agreement(args.rounds, args.seconds),
    }
    print(json.dumps({k: v for k, v in document.items() if k in ("overhead", "ort_cpu")}, indent=2))
    if args.out:
        write_text(args.out, json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
