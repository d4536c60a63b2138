"""The measured parts of the sample: ceilings, a profile, a comparison, a confusion matrix."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from vgg_deploy.bench.roofline import limit_of
from vgg_deploy.model.layers import vgg_layers
from vgg_deploy.results import (
    Block,
    Ceiling,
    Contest,
    Hop,
    LayerProfile,
    LayerTiming,
    Location,
    Stage,
    Subject,
    WorstImage,
)
from vgg_deploy.spec import ModelSpec

CEILINGS = (
    Ceiling(kind="gemm", precision="fp32", device="cpu", per_s=186e9, how="torch, 2048×2048"),
    Ceiling(kind="gemm", precision="bf16", device="cpu", per_s=373e9, how="torch, 2048×2048"),
    Ceiling(kind="copy", precision=None, device="cpu", per_s=41e9, how="numpy, 256 MiB"),
)


def profile(subject: Subject, spec: ModelSpec) -> LayerProfile:
    """Layers that take 1.1 to 2.5 times what they have to."""
    limit = limit_of(vgg_layers(spec), 1, "fp32", "cpu", CEILINGS)
    assert limit is not None
    random = np.random.default_rng(3)
    layers = [
        LayerTiming(
            name=bound.name,
            samples_ns=tuple(int(bound.seconds * 1e9 * f) for f in random.uniform(1.1, 2.5, 20)),
        )
        for bound in limit.bounds
    ]
    layers.append(LayerTiming(name="other", samples_ns=(20_000,) * 20))
    return LayerProfile(
        subject=subject, batch=1, how="ONNX Runtime's profiler, 20 runs", layers=tuple(layers)
    )


def contest(subjects: Sequence[Subject]) -> Contest:
    """The second is 4 % slower than the first."""
    random = np.random.default_rng(5)
    blocks = []
    for _ in range(40):
        order = tuple(int(i) for i in random.permutation(len(subjects)))
        medians = [2.6e6 * (1 + 0.04 * i) * random.normal(1, 0.01) for i in range(len(subjects))]
        blocks.append(Block(order=order, medians_ns=tuple(medians)))
    return Contest(
        subjects=tuple(subjects),
        batch=1,
        runs_per_turn=(19,) * len(subjects),
        blocks=tuple(blocks),
    )


def confusion(correct: int, total: int) -> tuple[tuple[int, ...], ...]:
    """Ten classes; what is wrong is mostly the neighbour."""
    each, right = total // 10, correct // 10
    rows = []
    for i in range(10):
        row = [0] * 10
        row[i] = right
        row[(i + 1) % 10] = (each - right) * 3 // 4
        row[(i + 4) % 10] = each - sum(row)
        rows.append(tuple(row))
    return tuple(rows)


def worst_image(number: int) -> WorstImage:
    """A picture that is not one colour."""
    pixels = np.add.outer(np.arange(28) * 5, np.arange(28) * (number + 2)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return WorstImage(
        name=f"fashion-mnist test #{4711 + number}",
        rel_l2=(4 + number) * 1e-7,
        expected="coat 0.52",
        found="coat 0.52" if number else "pullover 0.51",
        margin=0.04,
        png=base64.b64encode(buffer.getvalue()).decode(),
    )


def hops(child: str, error: float, limit: float, ok: bool) -> tuple[Hop, ...]:
    """From the checkpoint over fp32 to a precision of its own."""
    plain = Hop(parent="checkpoint.safetensors", child="model.fp32.onnx", backend="ort-cpu",
                rel_l2=4.1e-7, limit=5e-6, added=3.2e-7, ok=True)  # fmt: skip
    if child == plain.child:
        return (plain,)
    return plain, Hop(parent=plain.child, child=child, backend="ort-cpu", rel_l2=error,
                      limit=limit, added=error, ok=ok)  # fmt: skip


def located() -> Location:
    """Diverges at the fourth pool."""
    names = ("pool1", "pool2", "pool3", "pool4", "pool5", "fc6", "fc7", "fc8")
    errors = (4e-4, 7e-4, 1.1e-3, 9e-3, 1.6e-2, 2e-2, 2.1e-2, 2.14e-2)
    stages = tuple(
        Stage(name=n, rel_l2=e, limit=3e-3, ok=e <= 3e-3)
        for n, e in zip(names, errors, strict=True)
    )
    return Location(stage="pool4", stages=stages)
