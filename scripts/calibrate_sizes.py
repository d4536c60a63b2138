"""How far an int8 file errs on images it scales down itself, beside its error on real ones.

    python -m scripts.calibrate_sizes -o docs/results/sizes.json

``SIZES_RATIO`` of ``verify/tolerance.py`` is the limit of that ratio, and this is what it rests on.
Small networks, random (He-normal, seed 0) and trained on the sample, become int8 files with the
preprocessing inside. Each runs in ONNX Runtime and OpenVINO as it is, and with a resize without
antialias, the fault that the limit is there for. The ratio is verify's: the largest relative L2 to
float64 on images of other sizes over the median on real images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from scripts.calibrate_tolerance import he_normal
from tests.faults.catalogue import record
from tests.faults.graph import Graph
from tests.faults.in_quantized import no_antialias
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.reference import reference
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.environment import capture, now
from vgg_deploy.export.embedded import export_embedded
from vgg_deploy.files import write_text
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.images import images_for
from vgg_deploy.pipeline.request import TrainRequest
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.precision.options import CalibrationOptions
from vgg_deploy.train.options import TrainOptions
from vgg_deploy.verify.compare import distances, typical_norm
from vgg_deploy.verify.inputs import Inputs, make_inputs
from vgg_deploy.verify.runs import furthest_outputs, run_calls
from vgg_deploy.verify.tolerance import SIZES_RATIO

RANDOM: Mapping[str, dict[str, Any]] = {
    "vgg11 / 4, 32 px": {"arch": "vgg11", "size": 32, "width": 0.25},
    "vgg11 / 4, 64 px": {"arch": "vgg11", "size": 64, "width": 0.25},
    "vgg13 / 4, 64 px": {"arch": "vgg13", "size": 64, "width": 0.25},
    "vgg16 / 4, 64 px": {"arch": "vgg16", "size": 64, "width": 0.25},
    "vgg19 / 4, 64 px": {"arch": "vgg19", "size": 64, "width": 0.25},
    "vgg11_bn / 4, 64 px": {"arch": "vgg11_bn", "size": 64, "width": 0.25},
    "vgg16_bn / 4, 64 px": {"arch": "vgg16_bn", "size": 64, "width": 0.25},
    "vgg11 / 8, 96 px": {"arch": "vgg11", "size": 96, "width": 0.125},
}
TRAINED: Mapping[str, tuple[str, int, int]] = {  # arch, size, seed
    "1x8-1x16-2x32, 32 px, seed 0": ("1x8-1x16-2x32", 32, 0),
    "1x8-1x16-2x32, 32 px, seed 1": ("1x8-1x16-2x32", 32, 1),
    "1x8-1x16-2x32, 48 px": ("1x8-1x16-2x32", 48, 0),
    "1x16-1x32, 32 px": ("1x16-1x32", 32, 0),
    "1x8-1x16-2x32_bn, 32 px": ("1x8-1x16-2x32_bn", 32, 0),
    "1x8-1x16-1x16-1x32, 64 px": ("1x8-1x16-1x16-1x32", 64, 0),
}
BACKENDS = ("ort-cpu", "openvino")
BATCHES = (1, 2)
CALIBRATION = CalibrationOptions(data="sample")


def trained(root: Path, arch: str, size: int, seed: int) -> Bundle:
    """A network that has learned the sample for three epochs."""
    options = TrainOptions(epochs=3, seed=seed, deterministic=True)
    request = TrainRequest(
        arch=arch, width=1.0, size=size, fc_width=64, data="sample", options=options
    )
    return train_bundle(root, request)


def measured(bundle: Bundle, images: int) -> list[dict[str, Any]]:
    """A row for each backend and resize."""
    found = images_for(bundle.card)
    inputs = make_inputs(
        found.dataset.test.images, found.source, bundle.card.preprocessing, count=images, seed=0
    )
    exact = reference(bundle.path(bundle.checkpoint), inputs.batch)
    bundle = export_bundle(bundle, ("onnx",), precisions=("int8",), calibration=CALIBRATION)[0]
    bundle, whole, _ = export_embedded(bundle, precision="int8")
    rows = _rows("right", bundle, whole, inputs, exact)
    graph = Graph(onnx.load(str(bundle.path(whole))))
    no_antialias(graph)
    record(bundle, whole, lambda path: onnx.save(graph.model, str(path)))
    bundle = open_bundle(bundle.root)
    return rows + _rows("without antialias", bundle, bundle.named(str(whole.path)), inputs, exact)


def _rows(
    resize: str, bundle: Bundle, artifact: Artifact, inputs: Inputs, exact: np.ndarray[Any, Any]
) -> list[dict[str, Any]]:
    rows = []
    for name in BACKENDS:
        with get_backend(name).open(artifact, bundle.root) as session:
            calls = run_calls(session, inputs, artifact, BATCHES)
        outputs = furthest_outputs(calls, exact)
        real, sizes = (
            distances(outputs[part], exact[part], typical=typical_norm(exact))
            for part in (inputs.of_kind("real"), inputs.of_kind("sizes"))
        )
        usual, worst = float(np.median(real)), float(sizes.max())
        told = {"usual": usual, "worst_of_sizes": worst, "ratio": worst / usual}
        rows.append({"resize": resize, "backend": name, **told})
    return rows


def summary(networks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Range of the ratio by resize; a network is found where it is above the limit everywhere."""
    ratios = {
        resize: [[r["ratio"] for r in n["rows"] if r["resize"] == resize] for n in networks]
        for resize in ("right", "without antialias")
    }
    ranges = {
        resize: [min(map(min, all_of)), max(map(max, all_of))] for resize, all_of in ratios.items()
    }
    return {
        "networks": len(networks),
        "limit": SIZES_RATIO,
        "ratio": ranges,
        "found": sum(min(some) > SIZES_RATIO for some in ratios["without antialias"]),
        "holds": ranges["right"][1] < SIZES_RATIO,
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=32, help="real ones")
    parser.add_argument("--network", action="append", choices=[*RANDOM, *TRAINED])
    parser.add_argument("-o", "--out", type=Path, help="JSON file")
    args = parser.parse_args(words)
    networks = []
    for name, bundle in _bundles(args.network or [*RANDOM, *TRAINED]):
        begin = time.perf_counter()
        rows = measured(bundle, args.images)
        networks.append({"network": name, "trained": name in TRAINED, "rows": rows})
        ratios = ", ".join(f"{row['ratio']:.3g}" for row in rows)
        print(f"{name}: {ratios}; {time.perf_counter() - begin:.0f} s", flush=True)
    document = {
        "made_at": now(),
        "environment": asdict(capture()),
        "images": args.images,
        "summary": summary(networks),
        "networks": networks,
    }
    print(json.dumps(document["summary"], indent=2))
    if args.out:
        write_text(args.out, json.dumps(document, indent=1) + "\n")


def _bundles(names: Sequence[str]) -> Iterator[tuple[str, Bundle]]:
    """One after another; each is gone when the next is made."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "bundle"
            random = RANDOM.get(name)
            yield name, he_normal(root, **random) if random else trained(root, *TRAINED[name])


if __name__ == "__main__":
    main()
