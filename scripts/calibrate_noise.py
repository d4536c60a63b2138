"""From which spread on is a CPU's timing not worth quoting? The marks of bench, calibrated.

    python -m scripts.calibrate_noise -o docs/results/noise.json

The same small VGG is timed again and again in ONNX Runtime and in torch: on a machine that is left
alone, and beside a program that keeps one core busy. What a mark has to tell is whether the median
would come out the same again. So for each timing the distance of its median from the median of all
undisturbed ones stands beside its coefficient of variation, its robust spread and its drift.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median, stdev
from typing import Any

import numpy as np

from scripts.bench_comparison import small_bundle
from vgg_deploy import environment
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends import get_backend
from vgg_deploy.bench.measure import MeasureOptions, measure
from vgg_deploy.bench.rules import drift_of
from vgg_deploy.bench.stats import summarise
from vgg_deploy.bundle import Bundle
from vgg_deploy.files import write_text

CASES = (("ort-cpu", 1), ("ort-cpu", 8), ("torch", 1), ("torch", 8))
_BUSY = "while True: pass"


@contextmanager
def neighbour(present: bool) -> Iterator[None]:
    """A program that keeps one core busy, if wanted."""
    if not present:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", _BUSY]) as program:
        try:
            yield
        finally:
            program.kill()


def timed(
    bundle: Bundle, artifact: Artifact, name: str, batch: int, seconds: float
) -> dict[str, Any]:
    """One timing as bench makes it, with what its marks are decided by."""
    spec = bundle.card.spec
    images = np.zeros((batch, spec.channels, spec.size, spec.size), np.float32)
    with get_backend(name).open(artifact, bundle.root) as session:
        found = measure(session, images, MeasureOptions(min_seconds=seconds))
    stats = summarise(found.samples_ns, batch)
    return {
        "p50_ms": 1e3 * (stats.p50 or 0.0),
        "mean_ms": 1e3 * stats.mean,
        "cv": stats.cv,
        "spread": stats.spread,
        "drift": drift_of(found.samples_ns),
        "others_cores": found.others_cores,
        "queries": stats.queries,
    }


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per figure the 50th, 90th and 95th percentile, with and without the neighbour."""
    out: dict[str, Any] = {}
    for loaded in (False, True):
        chosen = [row for row in rows if row["loaded"] == loaded]
        out["loaded" if loaded else "alone"] = {
            name: [round(float(np.percentile([abs(r[name]) for r in chosen], p)), 5)
                   for p in (50, 90, 95)]
            for name in ("cv", "spread", "drift", "away")
        }  # fmt: skip
    alone = [row for row in rows if not row["loaded"]]
    groups = {(r["backend"], r["batch"]) for r in alone}
    logs = [
        [float(np.log(r["p50_ms"])) for r in alone if (r["backend"], r["batch"]) == group]
        for group in sorted(groups)
    ]
    out["run_to_run"] = [round(stdev(values), 5) for values in logs]
    return out


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("-o", "--out", type=Path, help="JSON file")
    args = parser.parse_args(words)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        bundle, onnx = small_bundle(Path(folder) / "bundle")
        for loaded in (False, True):
            with neighbour(loaded):
                for repeat in range(args.repeats):
                    for name, batch in CASES:
                        artifact = onnx if name == "ort-cpu" else bundle.checkpoint
                        row = timed(bundle, artifact, name, batch, args.seconds)
                        rows.append({"backend": name, "batch": batch, "loaded": loaded, **row})
                    print(f"\rloaded {loaded}: {repeat + 1} of {args.repeats}", end="", flush=True)
    print()
    for name, batch in CASES:
        mine = [r for r in rows if (r["backend"], r["batch"]) == (name, batch)]
        middle = median(r["p50_ms"] for r in mine if not r["loaded"])
        for row in mine:
            row["away"] = row["p50_ms"] / middle - 1
    document = {
        "made_at": environment.now(),
        "environment": asdict(environment.capture()),
        "summary": summary(rows),
        "rows": rows,
    }
    print(json.dumps(document["summary"], indent=2))
    if args.out:
        write_text(args.out, json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
