"""What every runtime is given: model files, images, and what float64 answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.artifact import Artifact, Format, Precision
from vgg_deploy.backends.reference import reference
from vgg_deploy.bundle import Bundle
from vgg_deploy.data.fashion_mnist import load_dataset
from vgg_deploy.data.images import to_channels
from vgg_deploy.data.patterns import hard_to_divide, scene
from vgg_deploy.data.preprocess import preprocess, preprocess_exact
from vgg_deploy.embed.write import PRECISIONS
from vgg_deploy.export.baked import EmbeddedOptions
from vgg_deploy.pipeline.export import embed_preprocessing, export_bundle
from vgg_deploy.pipeline.golden import LOGIT_TOLERANCE
from vgg_deploy.pipeline.load import LoadOptions, load_bundle
from vgg_deploy.pipeline.request import TrainRequest
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.pipeline.untrained import random_state
from vgg_deploy.spec import ModelSpec
from vgg_deploy.train.options import RunControl, TrainOptions

REAL = 100
# height, width, beside what depends on the network's size
SHAPES = {"one pixel": (1, 1), "very wide": (5, 900), "very tall": (700, 3)}
LARGE = ("12 megapixels", (3000, 4000))


@dataclass(frozen=True, kw_only=True)
class Form:
    """One column of the table: a file and what it should answer."""

    name: str
    path: Path
    artifact: Artifact
    inputs: Mapping[str, NDArray[np.generic]]
    want: Mapping[str, NDArray[np.float64]]
    bound: float  # of one logit's error, in units of the reference's rms


def trained_bundle(root: Path) -> Bundle:
    """A small VGG trained on the sample: its answers are decided, not noise."""
    request = TrainRequest(
        arch="1x8-1x16-2x32", width=1.0, size=32, fc_width=64, data="sample",
        options=TrainOptions(epochs=20),
    )  # fmt: skip
    control = RunControl(resume="may")
    return train_bundle(root, request, replace=True, reuse=True, control=control)


def colour_bundle(root: Path) -> Bundle:
    """A colour network with ImageNet's preprocessing, centre crop included; random weights."""
    from safetensors.torch import save_file

    spec = ModelSpec.named("1x8-1x16-1x16-1x32-1x32", size=96, classes=20, fc_width=64)
    weights = root.with_suffix(".safetensors")
    save_file(random_state(spec), weights)
    options = LoadOptions(weights=str(weights), arch=spec.arch, size=spec.size)
    return load_bundle(root, options, replace=True)


def all_forms(bundle: Bundle, colour: Bundle | None, *, large: bool) -> list[Form]:
    """The forms of a bundle that has them all, and the embedded form with a centre crop."""
    bundle, _, _ = export_bundle(bundle, ("onnx",), precisions=("fp16", "int8"))
    for precision in PRECISIONS:
        bundle, _ = embed_preprocessing(bundle, EmbeddedOptions(), precision=precision)
    images = images_for(bundle, large=large)
    wanted: dict[str, tuple[Format, Precision]] = {
        "plain": ("onnx", "fp32"),
        "embedded": ("embedded", "fp32"),
        "fp16": ("onnx", "fp16"),
        "int8": ("onnx", "int8"),
        "embedded fp16": ("embedded", "fp16"),
        "embedded int8": ("embedded", "int8"),
    }
    want = answers(bundle, images)
    forms = [_form(bundle, name, *which, images, want) for name, which in wanted.items()]
    if colour is None:
        return forms
    colour, _, _ = export_bundle(colour, ("onnx",))
    colour, _ = embed_preprocessing(colour, EmbeddedOptions())
    images = images_for(colour, large=large)
    cropped = _form(colour, "embedded, centre crop", "embedded", "fp32", images,
                    answers(colour, images))  # fmt: skip
    return [*forms[:2], cropped, *forms[2:]]


def images_for(bundle: Bundle, *, large: bool) -> dict[str, NDArray[np.uint8]]:
    """Batches of uint8 ``[N, H, W, C]``: real ones, then sizes that a resize can get wrong."""
    spec, resize = bundle.card.spec, bundle.card.preprocessing.resize
    real = load_dataset("sample").test.images[:REAL]
    shapes = {
        "downscaled": hard_to_divide(spec.size * 2 + 3, spec.size * 3 - 1, resize),
        "upscaled": (spec.size // 3, spec.size // 2),
        "the same size": (spec.size, spec.size),
        **SHAPES,
        **(dict([LARGE]) if large else {}),
    }
    made = {
        name: scene(*shape, spec.channels, seed=seed)[np.newaxis]
        for seed, (name, shape) in enumerate(shapes.items())
    }
    return {f"{REAL} test images": to_channels(real, spec.channels), **made}


def answers(
    bundle: Bundle, images: Mapping[str, NDArray[np.uint8]]
) -> dict[str, NDArray[np.float64]]:
    """Float64 logits."""
    p, checkpoint = bundle.card.preprocessing, bundle.path(bundle.checkpoint)
    return {
        name: reference(checkpoint, preprocess_exact(batch, p)) for name, batch in images.items()
    }


def scale_of(want: Mapping[str, NDArray[np.float64]]) -> float:
    """Root mean square of all logits."""
    return math.sqrt(float(np.mean(np.concatenate(list(want.values())) ** 2)))


def _form(
    bundle: Bundle,
    name: str,
    format: Format,
    precision: Precision,
    images: Mapping[str, NDArray[np.uint8]],
    want: Mapping[str, NDArray[np.float64]],
) -> Form:
    artifact = bundle.find(format, precision)
    if artifact is None:
        raise ValueError(f"{bundle.root} has no {precision} {format}")
    p = bundle.card.preprocessing
    inputs: dict[str, NDArray[np.generic]] = dict(images)
    if format == "onnx":
        inputs = {key: preprocess(batch, p) for key, batch in images.items()}
    return Form(
        name=name,
        path=bundle.path(artifact).resolve(),
        artifact=artifact,
        inputs=inputs,
        want=want,
        bound=LOGIT_TOLERANCE[precision],
    )
