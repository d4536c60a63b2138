"""Folders of images and bundles that tests of what a network has seen share."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tests.pipeline.training import OPTIONS, Heard
from vgg_deploy.artifact import Artifact
from vgg_deploy.bundle import Bundle
from vgg_deploy.pipeline.cells import Selection
from vgg_deploy.pipeline.verify import VerifyOptions, verify_bundle
from vgg_deploy.results import Accuracy, Comparison

SHORT = replace(OPTIONS, epochs=1, batch=16)


def pictures(root: Path, count: int, seed: int) -> Path:
    """Images of the photos' three classes that are none of them."""
    random = np.random.default_rng(seed)
    for channel, name in enumerate(("blue", "green", "red")):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = random.integers(0, 120, (30, 24, 3), np.uint8)
            pixels[..., 2 - channel] += 120
            Image.fromarray(pixels).save(root / name / f"new{seed}-{index}.png")
    return root


def lines_of(bundle: Bundle) -> list[dict[str, str]]:
    path = bundle.root / "training" / "images.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def verified(bundle: Bundle, data: Path) -> tuple[Comparison, list[str]]:
    told = Heard()
    options = VerifyOptions(selection=Selection(backends=("torch",)), images=8, data=str(data))
    return verify_bundle(bundle, options, told).rows[0], told.lines


def accuracy_of(row: Comparison) -> Accuracy:
    assert row.accuracy is not None
    return row.accuracy


def with_notes(bundle: Bundle, notes: Mapping[str, str], drop: str = "") -> Bundle:
    """The bundle as if its checkpoint said other things of itself."""

    def changed(one: Artifact) -> Artifact:
        kept = {key: value for key, value in one.made_by.items() if key != drop}
        return replace(one, made_by={**kept, **notes})

    artifacts = tuple(map(changed, bundle.artifacts))
    return replace(bundle, manifest=replace(bundle.manifest, artifacts=artifacts))
