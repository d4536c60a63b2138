"""Right exports of networks drawn at random: none of them may be called different."""

from __future__ import annotations

import random
from pathlib import Path

from tests.export.networks import lively_bundle
from vgg_deploy.artifact import Format
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import UsageError
from vgg_deploy.export import export
from vgg_deploy.spec import ModelCard, ModelSpec, Preprocessing

# backend and the format it opens
WAYS: tuple[tuple[str, Format], ...] = (
    ("ort-cpu", "onnx"),
    ("openvino", "onnx"),
    ("torchscript", "torchscript"),
)


def drawn_card(seed: int) -> ModelCard:
    """A small VGG that could be: blocks, widths, sizes, norms, heads, crops, by a seed.

    Eight channels and more: narrower random networks often die, and verify rightly refuses them.
    """
    dice = random.Random(seed)  # noqa: S311 - a draw that anybody can repeat
    while True:
        try:
            return _card(dice)
        except UsageError:  # too small for its poolings, or a head that does not export
            continue


def _card(dice: random.Random) -> ModelCard:
    channels = dice.choice((1, 3))
    head = dice.choice(("book", "book", "torchvision"))
    size = dice.choice((28, 56)) if head == "torchvision" else dice.randint(12, 48)
    spec = _spec(dice, size, channels, head)
    if 1 in spec.map_sizes[:-1]:  # OpenVINO pools no single pixel, in ceil mode neither
        raise UsageError("a pool of one pixel", "draw again")
    return ModelCard(
        spec=spec,
        preprocessing=Preprocessing(
            size=size,
            channels=channels,
            mean=tuple(round(dice.uniform(0.1, 0.6), 3) for _ in range(channels)),
            std=tuple(round(dice.uniform(0.1, 0.5), 3) for _ in range(channels)),
            resize=dice.choice((None, size + dice.randint(0, 9))),
        ),
        labels=tuple(f"class {i}" for i in range(spec.classes)),
    )


def _spec(dice: random.Random, size: int, channels: int, head: str) -> ModelSpec:
    blocks = tuple(
        (dice.randint(1, 3), dice.choice((8, 11, 12, 16))) for _ in range(dice.randint(1, 5))
    )
    batch_norm = dice.random() < 0.3
    return ModelSpec(
        arch="drawn",
        conv_arch=blocks,
        pointwise=tuple(dice.randint(0, n - 1) for n, _ in blocks) if dice.random() < 0.3 else (),
        lrn=dice.random() < 0.2 and not batch_norm,
        batch_norm=batch_norm,
        width=dice.choice((1.0, 1.0, 1.5)),
        size=size,
        channels=channels,
        classes=dice.choice((2, 3, 10, 10, 37)),
        fc_width=dice.choice((16, 32, 64)),
        head="torchvision" if head == "torchvision" else "book",
        ceil_mode=dice.random() < 0.3,
    )


def clean_bundle(seed: int, root: Path) -> tuple[Bundle, list[str]]:
    """The bundle of a draw with a right export, and the words that must exit 0."""
    bundle = lively_bundle(root, drawn_card(seed), seed=seed)
    backend, kind = WAYS[seed % len(WAYS)]
    bundle = export(bundle, kind)[0]
    return bundle, ["verify", str(root), "-b", backend, "--no-accuracy", "--images", "8"]
