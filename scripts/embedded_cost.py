"""What preprocessing inside the ONNX file costs, beside preprocessing in numpy before it.

An app's whole way, host to host, for one 640×480 image: ``numpy`` resizes, normalizes, runs the
plain file and takes the softmax; ``embedded`` runs the embedded file. Both in ONNX Runtime on the
CPU, in turns, in blocks of random order; the ratio has a 95 % interval. Weights are random: they
do not change the time.

    python -m scripts.embedded_cost                   VGG-16 at 224 px, about 3 minutes
    python -m scripts.embedded_cost --arch 1x8-1x16 --size 64 --blocks 6 -o toy.json
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Array
from vgg_deploy.bench.clock import HostStopwatch
from vgg_deploy.bench.contest import Contender, ContestOptions, contest
from vgg_deploy.bench.paired import ratios
from vgg_deploy.bundle import Bundle
from vgg_deploy.data.patterns import scene
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.environment import capture, now, threads
from vgg_deploy.export import export
from vgg_deploy.export.embedded import export_embedded
from vgg_deploy.files import write_text
from vgg_deploy.pipeline.load import LoadOptions, load_bundle
from vgg_deploy.pipeline.untrained import random_state
from vgg_deploy.results import Subject
from vgg_deploy.spec import ModelSpec
from vgg_deploy.verify.compare import softmax

HEIGHT, WIDTH = 480, 640
LIMIT = 1.15  # the embedded file may take at most this much of numpy's time
RESULTS = Path("docs/results/embedded_cost.json")
Answer = Callable[[Array], Array]  # pixels to probabilities


class App:
    """An app as a session: pixels in, probabilities out."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __call__(self, batch: Array, /) -> Array:
        """Probabilities."""
        return self._answer(batch)

    def bind(self, batch: Array, /) -> Callable[[], None]:
        """The whole way, every time."""
        return lambda: (self._answer(batch), None)[1]

    def sync(self) -> None:
        """Nothing is outstanding."""


def random_bundle(root: Path, arch: str, size: int) -> Bundle:
    """A network with ImageNet's preprocessing, centre crop included."""
    from safetensors.torch import save_file

    spec = ModelSpec.named(arch, size=size)
    weights = root.with_suffix(".safetensors")
    save_file(random_state(spec), weights)
    options = LoadOptions(weights=str(weights), arch=arch, size=size)
    bundle = load_bundle(root, options, replace=True)
    weights.unlink()
    bundle, _, _ = export(bundle, "onnx")
    bundle, _, _ = export_embedded(bundle)
    return bundle


def apps(bundle: Bundle) -> dict[str, tuple[Artifact, Answer]]:
    """The two ways, as an app's author would write them."""
    plain, whole = bundle.find("onnx"), bundle.find("embedded")
    if plain is None or whole is None:
        raise ValueError("both files are needed")
    p = bundle.card.preprocessing
    network, everything = (_session(bundle.path(a)) for a in (plain, whole))

    def in_numpy(pixels: Array) -> Array:
        return softmax(network.run(["logits"], {"input": preprocess(pixels, p)})[0])

    def in_the_file(pixels: Array) -> Array:
        answer: Array = everything.run(["probabilities"], {"image": pixels})[0]
        return answer

    return {"numpy": (plain, in_numpy), "embedded": (whole, in_the_file)}


def measure(bundle: Bundle, options: ContestOptions) -> dict[str, Any]:
    """Time both on one image and compare."""
    pixels = scene(HEIGHT, WIDTH, bundle.card.spec.channels)[np.newaxis]
    both = apps(bundle)
    first, second = (answer(pixels) for _, answer in both.values())
    difference = float(np.abs(first - second).max())
    contenders = [
        Contender(_subject(name, artifact), App(answer), HostStopwatch())
        for name, (artifact, answer) in both.items()
    ]
    found = contest(contenders, pixels, options)
    (ratio,) = ratios(found)
    return {
        "made_at": now(),
        "environment": asdict(capture()),
        "arch": bundle.card.spec.arch,
        "size": bundle.card.spec.size,
        "image": [HEIGHT, WIDTH],
        "threads": threads(),
        "largest_difference_of_a_probability": difference,
        "median_ms": {
            name: median(block.medians_ns[i] for block in found.blocks) / 1e6
            for i, name in enumerate(both)
        },
        "ratio": asdict(ratio),
        "limit": LIMIT,
        "marks": list(found.marks),
        "contest": asdict(found),
    }


def main(words: Sequence[str] | None = None) -> None:
    """Measure and store."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--arch", default="vgg16")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("-o", "--out", type=Path, help=f"of the usual run: {RESULTS}")
    options = parser.parse_args(words)
    usual = all(parser.get_default(k) == getattr(options, k) for k in ("arch", "size", "blocks"))
    if options.out is None and not usual:
        parser.error(f"say with -o where to: {RESULTS} is of the usual run")
    with tempfile.TemporaryDirectory() as folder:
        bundle = random_bundle(Path(folder) / "bundle", options.arch, options.size)
        document = measure(bundle, ContestOptions(blocks=options.blocks))
    write_text(options.out or RESULTS, json.dumps(document, indent=1) + "\n")
    print(json.dumps({k: document[k] for k in ("median_ms", "ratio", "marks")}, indent=1))


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads()
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _subject(name: str, artifact: Artifact) -> Subject:
    return Subject(
        artifact=str(artifact.path),
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        format=artifact.format,
        precision=artifact.precision,
        backend=f"ort-cpu, {name}",
        device="cpu",
    )


if __name__ == "__main__":
    main()
