"""TensorRT-RTX engines built without a GPU: how many from one bundle, how large, how long.

    python scripts/bench_engines.py -o docs/results/rtx_engines.json

Part one takes one bundle (VGG-11 ÷ 4 at 64 px, random He-normal weights, calibrated on the sample)
and builds every precision for every compute capability that the library knows. A cell that cannot
be built is in the result with its reason. For each engine the layers that TensorRT logged are
counted: convolutions and matrix products by the type of their input.

Part two builds VGG-16 fp32 at 224 px, each time in a fresh process. *build* is the one library call
(``build_serialized_network``); *all* is the whole of ``build_engine``: digest of the ONNX file,
parsing, building, writing 553 MB, digest, manifest.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from vgg_deploy import environment
from vgg_deploy.artifact import PRECISIONS
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.export import export
from vgg_deploy.files import write_text
from vgg_deploy.pipeline.build import build_bundle
from vgg_deploy.pipeline.untrained import random_state, untrained_bundle, untrained_card
from vgg_deploy.pipeline.watch import Silent
from vgg_deploy.precision import CalibrationOptions, convert
from vgg_deploy.spec import ModelSpec
from vgg_deploy.trt.build import build_engine
from vgg_deploy.trt.flavour import load
from vgg_deploy.trt.notes import read_notes
from vgg_deploy.trt.options import BuildOptions

LEAST_ENGINES, LIMIT_S = 12, 10.0
SMALL = ModelSpec.named("vgg11", width=0.25, size=64, channels=1, classes=10)
LARGE = ModelSpec.named("vgg16")


def main() -> None:
    """Parse, build, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--repeats", type=int, default=5, help="builds of VGG-16")
    parser.add_argument("--images", type=int, default=128, help="calibration images")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(build_large(options.child)))
        return
    with tempfile.TemporaryDirectory(prefix="bench-engines-") as folder:
        result = measure(Path(folder), options.repeats, options.images)
    if options.output:
        write_text(options.output, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["summary"], indent=2))


def measure(folder: Path, repeats: int, images: int) -> dict[str, object]:
    """Both parts, with the environment and what they sum up to."""
    capabilities = load("tensorrt_rtx").traits.compute_capabilities
    cells = build_small(folder / "small", capabilities, images)
    large = make_bundle(folder / "large", LARGE)
    export(large, "onnx")
    samples = [run_child(large.root) for _ in range(repeats)]
    there = [cell for cell in cells if cell["seconds"] is not None]
    build_s = median(sample["build_s"] for sample in samples)
    return {
        "what": "TensorRT-RTX engines built on a machine without a GPU",
        "made_at": environment.now(),
        "environment": asdict(environment.capture()),
        "library": load("tensorrt_rtx").version,
        "one_bundle": {"network": "vgg11, width 0.25, 64 px, random weights", "cells": cells},
        "vgg16_fp32_sm89": samples,
        "summary": {
            "engines": len(there),
            "engines_wanted": LEAST_ENGINES,
            "not_built": len(cells) - len(there),
            "vgg16_build_s": build_s,
            "vgg16_all_s": median(sample["all_s"] for sample in samples),
            "vgg16_limit_s": LIMIT_S,
            "holds": len(there) >= LEAST_ENGINES and build_s < LIMIT_S,
        },
    }


def build_small(root: Path, capabilities: Sequence[str], images: int) -> list[dict[str, object]]:
    """A cell per precision and compute capability of one bundle."""
    bundle = export(make_bundle(root, SMALL), "onnx")[0]
    calibration = CalibrationOptions(data="sample", images=images)
    for precision in PRECISIONS:
        if precision not in ("fp32", "tf32"):
            bundle = convert(bundle, precision, calibration)[0]
    options = BuildOptions(flavour="tensorrt_rtx")
    done, _ = build_bundle(bundle, options, PRECISIONS, capabilities, Silent())
    open_bundle(root).check()
    return [
        {
            "precision": row.precision,
            "compute_capability": row.compute_capability,
            "bytes": row.engine.size_bytes if row.engine else None,
            "seconds": row.notes.seconds if row.notes else None,
            "products": dict(row.notes.computed_in()) if row.notes else {},
            "layers": len(row.notes.layers) if row.notes else None,
            "reason": row.reason,
        }
        for row in done
    ]


def run_child(root: Path) -> dict[str, float]:
    """One build of the large network in a fresh process."""
    command = [sys.executable, __file__, "--child", str(root)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    for made in root.glob("*.plan*"):
        made.unlink()
    sample: dict[str, float] = json.loads(done.stdout)
    print(sample, file=sys.stderr)
    return sample


def build_large(root: Path) -> dict[str, float]:
    """Seconds of the library call and of everything around it; the import is apart."""
    load("tensorrt_rtx")
    options = BuildOptions(flavour="tensorrt_rtx", compute_capability="8.9")
    start = time.perf_counter()
    bundle, engine, _ = build_engine(open_bundle(root), options, Silent())
    spent = time.perf_counter() - start
    notes = read_notes(bundle, engine)
    return {"build_s": notes.seconds, "all_s": round(spent, 3), "bytes": engine.size_bytes}


def make_bundle(root: Path, spec: ModelSpec) -> Bundle:
    """A bundle of seeded He-normal weights."""
    half = (0.5,) * spec.channels
    card = untrained_card(spec, mean=half, std=half)
    return untrained_bundle(root, card, random_state(spec), {"weights": "random, seed 0"})


if __name__ == "__main__":
    main()
