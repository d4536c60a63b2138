"""What a stranger's app writes for the golden vectors, and what ``selfcheck`` says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import make_card
from tests.export.networks import lively_bundle
from tests.pipeline.foreign_apps import MEAN, STD, App, Network
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.pipeline.golden import make_golden


def made(folder: Path, resize: int | None = None) -> Bundle:
    card = make_card(channels=3)
    preprocessing = replace(card.preprocessing, mean=MEAN, std=STD, resize=resize)
    card = replace(card, preprocessing=preprocessing)
    return make_golden(lively_bundle(folder / "bundle", card))


def written(bundle: Bundle, network: Network, app: App, path: Path, **more: Any) -> Path:
    """What a foreign app writes, after reading the golden vectors with json and bytes alone."""
    folder = bundle.root / "golden"
    index = json.loads((folder / "index.json").read_text())
    images = []
    with torch.no_grad():
        for entry in index["images"]:
            shape = (entry["height"], entry["width"], entry["channels"])
            content = np.fromfile(folder / entry["file"], np.uint8).reshape(shape)
            logits, probabilities = app(network, torch.from_numpy(content))
            images.append(
                {
                    "name": entry["name"],
                    "logits": logits[0].tolist(),
                    "probabilities": probabilities[0].tolist(),
                }
            )
    document = {"format": "vgg-deploy golden results", "version": 1, "app": "a test"}
    path.write_text(json.dumps({**document, "images": images, **more}))
    return path


def judged(
    bundle: Bundle, results: Path, capsys: pytest.CaptureFixture[str]
) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    code = main(["selfcheck", str(bundle.root), "--results", str(results), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err
