"""What a verdict costs beyond the inferences it needs: VGG-16 at 224 px on three CPU backends.

    python -m scripts.bench_verify --out docs/results/verify_cost.json

Bare are plain loops: open each backend once, run every image once in batches of 8, and nothing
else; the same for the float64 reference and for torch eager, the yardsticks. All other things that
verify does (digests, preprocessing, the probes at other batch sizes, comparing, the report) are
its overhead. Takes about five minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from scripts.calibrate_tolerance import he_normal
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Array
from vgg_deploy.backends.reference import eager, reference
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import capture, now
from vgg_deploy.export import export
from vgg_deploy.files import write_text
from vgg_deploy.pipeline.cells import Selection
from vgg_deploy.pipeline.images import images_for
from vgg_deploy.pipeline.verify import VerifyOptions, verify_bundle
from vgg_deploy.verify.inputs import make_inputs

BACKENDS = {"torch": "checkpoint", "ort-cpu": "onnx", "openvino": "onnx"}
BATCH = 8


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description="The cost of a verdict.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--arch", default="vgg16")
    parser.add_argument("--size", type=int, default=224)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = he_normal(Path(folder) / "bundle", arch=args.arch, size=args.size)
        bundle = export(bundle, "onnx")[0]
        seconds = _measured(bundle, args.images)
    bare = seconds["three backends"]
    yardsticks = seconds["float64 reference"] + seconds["torch eager"]
    stored = {
        "made_at": now(),
        "environment": asdict(capture()),
        "network": f"{args.arch} at {args.size} px, He-normal weights",
        "images": f"{args.images} real, 4 noise, 2 edge",
        "seconds": seconds,
        "first verify / (backends + both yardsticks)": seconds["first verify"]
        / (bare + yardsticks),
        "first verify / (backends + float64)": seconds["first verify"]
        / (bare + seconds["float64 reference"]),
        "second verify / backends alone": seconds["second verify"] / bare,
    }
    write_text(args.out, json.dumps(stored, indent=1) + "\n")
    print(json.dumps({k: v for k, v in stored.items() if k != "environment"}, indent=1))


def _measured(bundle: Bundle, images: int) -> dict[str, float]:
    found = images_for(bundle.card)
    inputs = make_inputs(
        found.dataset.test.images, found.source, bundle.card.preprocessing, count=images, seed=0
    )
    batch, path = inputs.batch, bundle.path(bundle.checkpoint)
    options = VerifyOptions(
        selection=Selection(backends=tuple(BACKENDS), formats=("checkpoint", "onnx")),
        images=images,
        accuracy=False,
    )
    _run_all(bundle, batch[:1])  # imports and first calls are nobody's overhead
    steps: dict[str, Callable[[], object]] = {
        "three backends": lambda: _run_all(bundle, batch),
        "float64 reference": lambda: reference(path, batch),
        "torch eager": lambda: eager(path, batch),
        "first verify": lambda: verify_bundle(bundle, options),
        "second verify": lambda: verify_bundle(bundle, options),
    }
    seconds = {}
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        seconds[name] = round(time.perf_counter() - start, 2)
    return seconds


def _run_all(bundle: Bundle, batch: Array) -> None:
    for backend in BACKENDS:
        _run(bundle, backend, batch)


def _run(bundle: Bundle, name: str, batch: Array) -> None:
    artifact = bundle.find(BACKENDS[name])  # type: ignore[arg-type]
    if artifact is None:
        raise SystemExit(f"no {BACKENDS[name]} in the bundle")
    with get_backend(name).open(artifact, bundle.root) as session:
        for start in range(0, len(batch), BATCH):
            session(batch[start : start + BATCH])


if __name__ == "__main__":
    main()
