"""Make a bundle's golden vectors: few small images and the float64 reference's answers."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.artifact import Precision
from vgg_deploy.backends.reference import reference
from vgg_deploy.bundle import Bundle
from vgg_deploy.data.fashion_mnist import load_dataset
from vgg_deploy.data.images import to_channels
from vgg_deploy.data.patterns import hard_to_divide, scene
from vgg_deploy.data.preprocess import preprocess_exact
from vgg_deploy.environment import versions
from vgg_deploy.files import write_text
from vgg_deploy.golden import INDEX, GoldenImage, GoldenIndex, GoldenTolerance
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.spec import ModelCard
from vgg_deploy.verify.compare import margins, softmax

REFERENCE = "preprocessing, network and softmax in float64: numpy and torch on the CPU"
_RECIPE = "3"  # another number makes old golden vectors stale
_DIGITS = 10  # significant ones; float32 has 7
_PIXELS = 400_000  # of the largest image, where the network's own size allows it

# Largest difference of a logit, in units of the root mean square of the reference's logits. Fp32
# runtimes stay below 1e-5 with the resize included; a wrong resize or channel order gives 1e-2 and
# more. Quantized models are judged by accuracy in verify; here they are only kept from nonsense.
LOGIT_TOLERANCE: Mapping[Precision, float] = {
    "fp32": 1e-4,
    "tf32": 1e-2,
    "fp16": 2e-2,
    "bf16": 1e-1,
    "int8": 5e-1,
    "fp8": 5e-1,
}


def make_golden(bundle: Bundle, watch: Watcher | None = None) -> Bundle:
    """The bundle with golden vectors of its checkpoint; valid ones are kept.

    Raises ``DigestMismatch`` for an edited checkpoint, ``BackendNotAvailable`` without torch.
    """
    watch = watch or Silent()
    made_by = versions("vgg-deploy", "numpy", "torch") | {"recipe": _RECIPE}
    if _valid(bundle, made_by):
        watch.say("golden: kept, still valid")
        return bundle
    bundle.check([bundle.checkpoint])
    images = dict(golden_images(bundle.card))
    watch.begin("golden vectors", len(images), "images")
    checkpoint = bundle.path(bundle.checkpoint)
    p = bundle.card.preprocessing
    ready = np.concatenate([preprocess_exact(image[np.newaxis], p) for image in images.values()])
    logits = reference(checkpoint, ready, on_batch=watch.advance)

    def write(folder: Path) -> None:
        for name, image in images.items():
            (folder / f"{name}.raw").write_bytes(image.tobytes())
        index = _index(bundle, images, logits)
        write_text(folder / INDEX, json.dumps(asdict(index), indent=1) + "\n")

    bundle = bundle.add_golden(made_by, write)
    watch.say(f"golden: {len(images)} images with the reference's answers")
    return bundle


def golden_images(card: ModelCard) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Name and uint8 ``[H, W, C]`` of every golden image: real ones, then what apps get wrong."""
    size, channels, p = card.spec.size, card.spec.channels, card.preprocessing
    side = p.resize or p.size  # what the shorter side becomes: it must be smaller than before
    test = load_dataset("sample").test
    for index in range(3):
        yield f"real-{index}", to_channels(test.images[index : index + 1], channels)[0]
    large = max(1.1, min(1.9, math.sqrt(_PIXELS / (1.4 * side * side))))
    short, long = math.ceil(side * (1 + large) / 2), math.ceil(side * large)
    shapes = {
        "same-size": (size, size),
        "landscape-downscaled": hard_to_divide(short, long, p.resize),
        "portrait-downscaled": hard_to_divide(long + 1, short + 1, p.resize),
        "portrait-upscaled": (max(2, size // 2), max(1, size // 3)),
        "very-wide": (5, 640),
        "very-tall": (640, 3),
        "one-pixel": (1, 1),
    }
    for seed, (name, (height, width)) in enumerate(shapes.items()):
        yield name, scene(height, width, channels, seed=seed)
    yield "all-0", np.zeros((24, 32, channels), np.uint8)
    yield "all-255", np.full((24, 32, channels), 255, np.uint8)


def tolerances_for(logits: NDArray[np.float64]) -> dict[Precision, GoldenTolerance]:
    """Absolute bounds from the reference's logits ``[N, classes]``.

    If no logit moves by more than d, no probability moves by more than d / 2: a softmax's
    derivative p (1 - p) is at most a quarter, and two logits can move in opposite directions.
    """
    scale = float(np.sqrt(np.mean(logits**2)))
    bounds = {precision: scale * share for precision, share in LOGIT_TOLERANCE.items()}
    return {
        precision: GoldenTolerance(
            logits=_rounded(bound), probabilities=_rounded(min(1.0, bound / 2 + 1e-6))
        )
        for precision, bound in bounds.items()
    }


def _valid(bundle: Bundle, made_by: Mapping[str, str]) -> bool:
    record = bundle.manifest.golden
    if record is None or record.parent != bundle.checkpoint.sha256:
        return False
    return dict(record.made_by) == dict(made_by) and bundle.golden_problem() is None


def _index(
    bundle: Bundle, images: Mapping[str, NDArray[np.uint8]], logits: NDArray[np.float64]
) -> GoldenIndex:
    probabilities, gaps = softmax(logits), margins(logits)
    return GoldenIndex(
        weights_sha256=bundle.checkpoint.sha256,
        reference=REFERENCE,
        labels=bundle.card.labels,
        preprocessing=bundle.card.preprocessing,
        tolerances=tolerances_for(logits),
        images=tuple(
            GoldenImage(
                name=name,
                file=f"{name}.raw",
                sha256=hashlib.sha256(image.tobytes()).hexdigest(),
                height=image.shape[0],
                width=image.shape[1],
                channels=image.shape[2],
                top1=int(logits[row].argmax()),
                margin=_rounded(float(gaps[row])),
                logits=tuple(_rounded(v) for v in logits[row].tolist()),
                probabilities=tuple(_rounded(v) for v in probabilities[row].tolist()),
            )
            for row, (name, image) in enumerate(images.items())
        ),
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
