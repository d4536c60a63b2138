"""What the timing loop itself costs, and whether its numbers are those of a plain loop.

    python -m scripts.bench_overhead -o docs/results/bench_overhead.json

*overhead*: a session whose runs do nothing, so that all of what is measured, and all of what passes
between two runs, is the loop. *ort-cpu*: the median latency of a small VGG in ONNX Runtime, by
``vgg_deploy.bench`` and by the loop one would write without it (an InferenceSession with IO
binding, ``perf_counter`` around ``run_with_iobinding``), in turns and in random order.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from scripts.bench_comparison import small_bundle
from vgg_deploy import environment
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Array
from vgg_deploy.bench.measure import MeasureOptions, measure
from vgg_deploy.bench.paired import paired
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import threads
from vgg_deploy.files import write_text

OVERHEAD_LIMIT_NS = 5_000
AGREEMENT_LIMIT = 0.02


class Nothing:
    """A session whose runs do nothing."""

    def __call__(self, batch: Array, /) -> Array:
        """The input."""
        return batch

    def bind(self, _batch: Array, /) -> Callable[[], None]:
        """Nothing."""
        return lambda: None

    def sync(self) -> None:
        """Nothing to wait for."""


def overhead(seconds: float) -> dict[str, Any]:
    """Nanoseconds per query inside and outside the timed part."""
    options = MeasureOptions(min_seconds=seconds, percentile=99)
    begin = time.perf_counter_ns()
    found = measure(Nothing(), np.zeros(1), options)
    spent = time.perf_counter_ns() - begin
    queries = len(found.samples_ns) + found.warmup_runs + len(found.end_to_end_ns)
    inside = median(found.samples_ns)
    return {
        "queries": queries,
        "timed_ns": inside,
        "whole_query_ns": round(spent / queries, 1),
        "limit_ns": OVERHEAD_LIMIT_NS,
        "holds": spent / queries < OVERHEAD_LIMIT_NS,
    }


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
        shuffle = random.Random(0).shuffle  # noqa: S311
        pairs = []
        for _ in range(rounds):
            found = {}
            order = ["ours", "plain"]
            shuffle(order)
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
        "overhead": overhead(2 * args.seconds),
        "ort_cpu": agreement(args.rounds, args.seconds),
    }
    print(json.dumps({k: v for k, v in document.items() if k in ("overhead", "ort_cpu")}, indent=2))
    if args.out:
        write_text(args.out, json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
