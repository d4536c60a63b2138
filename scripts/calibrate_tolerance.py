"""How large the error of a right result is: by precision, network and runtime.

    python scripts/calibrate_tolerance.py --out docs/results/tolerance_calibration.json
    python scripts/calibrate_tolerance.py --trained artifacts/fmnist --network none --out ...

What the file already holds of other networks is kept, so that it can be made in pieces. Every
network gets He-normal weights (torch's default ones let the signal die) and real images of
Fashion-MNIST, resized to its input; ``--trained`` adds a bundle's own weights. For each image the
error against float64 is measured of torch eager at every precision (emulated as
``vgg_deploy/backends/reference.py`` says), of torch's own half-precision kernels, and of ONNX
Runtime and OpenVINO on the exported files. The floors of ``verify/tolerance.py`` are three
times the median network's worst error of eager, and a test holds them to this file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vgg_deploy.artifact import Precision
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Array
from vgg_deploy.backends.reference import CHUNK, eager, reference
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.environment import capture, now
from vgg_deploy.export import export
from vgg_deploy.files import write_text
from vgg_deploy.model.checkpoint import load_model
from vgg_deploy.pipeline.images import images_for
from vgg_deploy.pipeline.untrained import random_state, untrained_bundle, untrained_card
from vgg_deploy.precision.convert import convert
from vgg_deploy.precision.options import CalibrationOptions
from vgg_deploy.spec import ModelSpec
from vgg_deploy.verify.compare import distances, errors
from vgg_deploy.verify.inputs import make_inputs

NETWORKS = {
    "vgg11": {"arch": "vgg11", "size": 224},
    "vgg16": {"arch": "vgg16", "size": 224},
    "vgg19": {"arch": "vgg19", "size": 224},
    "vgg11 / 4": {"arch": "vgg11", "size": 64, "width": 0.25},
    "vgg16_bn / 4": {"arch": "vgg16_bn", "size": 64, "width": 0.25},
    "vgg19 / 4": {"arch": "vgg19", "size": 64, "width": 0.25},
}
PRECISIONS: tuple[Precision, ...] = ("fp32", "tf32", "fp16", "bf16")
EXPORTED: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
_FEW = CalibrationOptions(images=8)  # of the fp16 file, which only looks for overflow
KERNELS = {"fp16": "float16", "bf16": "bfloat16"}  # torch's own


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument(
        "--network", action="append", choices=[*NETWORKS, "none"], help="only these"
    )
    parser.add_argument("--trained", type=Path, help="a bundle whose weights are added")
    parser.add_argument("--eager-only", action="store_true", help="without other runtimes")
    args = parser.parse_args()
    names = [n for n in args.network or NETWORKS if n != "none"]
    results = {}
    if args.out.exists():
        results = {r["network"]: r for r in json.loads(args.out.read_text())["networks"]}
    for name, bundle in _bundles(names, args.trained):
        start = time.perf_counter()
        results[name] = {"network": name, **_measured(bundle, args.images, args.eager_only)}
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        _save(args.out, list(results.values()))


def _save(path: Path, results: list[dict[str, Any]]) -> None:
    stored = {
        "made_at": now(),
        "environment": asdict(capture()),
        "weights": "He-normal, seed 0; batch norm statistics as initialised; trained where said",
        "networks": results,
        "worst": _worst(results),
    }
    write_text(path, json.dumps(stored, indent=1) + "\n")


def _bundles(names: list[str], trained: Path | None) -> Iterator[tuple[str, Bundle]]:
    """The bundles one after another; each is gone when the next is made."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            yield name, he_normal(Path(folder) / "bundle", **NETWORKS[name])
    if trained:
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copytree(trained, Path(folder) / "bundle")
            yield "trained " + open_bundle(copy).card.spec.arch, open_bundle(copy)


def he_normal(root: Path, **spec: Any) -> Bundle:
    """A bundle with a checkpoint of weights that keep the signal alive; three channels."""
    made = ModelSpec.named(**spec, channels=3, classes=10)
    return untrained_bundle(root, untrained_card(made), random_state(made), {}, replace=True)


def _measured(bundle: Bundle, images: int, eager_only: bool) -> dict[str, Any]:
    found = images_for(bundle.card)
    inputs = make_inputs(
        found.dataset.test.images, found.source, bundle.card.preprocessing, count=images, seed=0
    )
    path = bundle.path(bundle.checkpoint)
    exact = reference(path, inputs.batch)
    scale = float(np.sqrt(np.mean(exact**2)))
    runs: dict[str, dict[str, Any]] = {}
    for precision in PRECISIONS:
        runs[f"{precision} eager"] = _told(eager(path, inputs.batch, precision), exact, scale)
    if not eager_only:
        for half, kernel in KERNELS.items():
            runs[f"{half} torch kernels"] = _told(_own(path, inputs.batch, kernel), exact, scale)
        for label, logits in _runtimes(bundle, inputs.batch):
            runs[label] = _told(logits, exact, scale)
    spec = bundle.card.spec
    return {
        "weight_layers": spec.weight_layers,
        "size": spec.size,
        "width": spec.width,
        "images": inputs.counts,
        "image_source": inputs.source,
        "logits_rms": scale,
        "errors": runs,
    }


def _own(path: Path, batch: Array, kernel: str) -> Array:
    """Torch's own kernels of a half precision, where this processor has them."""
    import torch

    dtype = getattr(torch, kernel)
    network = load_model(path).to(dtype)
    parts = []
    with torch.inference_mode():
        for start in range(0, len(batch), CHUNK):
            images = torch.from_numpy(batch[start : start + CHUNK]).to(dtype)
            parts.append(network(images).float().numpy())
    logits: Array = np.concatenate(parts)
    return logits


def _runtimes(bundle: Bundle, batch: Array) -> Iterator[tuple[str, Array]]:
    bundle = export(bundle, "onnx")[0]
    for precision in EXPORTED:
        if precision != "fp32":
            bundle = convert(bundle, precision, _FEW)[0]
        artifact = bundle.find("onnx", precision)
        for name in ("ort-cpu", "openvino"):
            if artifact is None:
                continue
            backend = get_backend(name)
            refuses = getattr(backend, "refuses", lambda _: None)
            if backend.probe() or refuses(artifact):
                continue
            with backend.open(artifact, bundle.root) as session:
                parts = [session(batch[i : i + CHUNK]) for i in range(0, len(batch), CHUNK)]
            yield f"{precision} {name}", np.concatenate(parts)


def _told(logits: Array, exact: Array, scale: float) -> dict[str, Any]:
    found = errors(logits.astype(np.float64), exact)
    return {
        "rel_l2": found.rel_l2,
        "max_abs_in_rms": found.max_abs / scale,
        "top1_flips": found.top1_flips,
        "per_image": [float(f"{e:.3e}") for e in distances(logits.astype(np.float64), exact)],
    }


def _worst(results: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Over all networks, the largest error of each way of running at each precision."""
    worst: dict[str, dict[str, float]] = {}
    for result in results:
        for label, run in result["errors"].items():
            kept = worst.setdefault(label, {"rel_l2": 0.0, "max_abs_in_rms": 0.0})
            for name in kept:
                kept[name] = max(kept[name], run[name])
    return worst


if __name__ == "__main__":
    main()
