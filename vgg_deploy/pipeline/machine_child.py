"""What a check of a machine runs in processes of their own and no command does.

    python -m vgg_deploy.pipeline.machine_child make NETWORK BUNDLE     # seeded random weights
    python -m vgg_deploy.pipeline.machine_child golden BACKEND BUNDLE   # needs no torch

One line of JSON on stdout.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Array, Backend, Selective
from vgg_deploy.bundle import Bundle, create_bundle, open_bundle
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.errors import VggDeployError, unknown_choice
from vgg_deploy.golden import FOLDER, load_image, load_index
from vgg_deploy.manifest import Draft
from vgg_deploy.process import end_with_parent
from vgg_deploy.spec import ModelCard, ModelSpec, Preprocessing

RANDOM = {"vgg16": ModelSpec.named("vgg16")}


def make(name: str, folder: Path) -> dict[str, Any]:
    """A bundle with He-normal weights, seed 0; one that is there stays.

    Times do not depend on weights, and the logits of such weights follow the input.
    """
    if (folder / "manifest.json").exists():
        return {"made": False, "sha256": open_bundle(folder).checkpoint.sha256}
    import torch
    from torch import nn

    from vgg_deploy.model.checkpoint import input_spec, output_spec, save_checkpoint
    from vgg_deploy.model.vgg import VGG

    card = _card(name)
    torch.manual_seed(0)
    network = VGG(card.spec)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    state = network.state_dict()
    draft = Draft(
        format="checkpoint",
        precision="fp32",
        input=input_spec(card),
        output=output_spec(card),
        parent=None,
        made_by={"weights": "He-normal, seed 0", "torch": str(torch.__version__)},
    )
    _, artifact = create_bundle(
        folder, card, draft, lambda path: save_checkpoint(path, card, state), replace=False
    )
    return {"made": True, "sha256": artifact.sha256}


def _card(name: str) -> ModelCard:
    if name not in RANDOM:
        raise unknown_choice("network", name, RANDOM)
    spec = RANDOM[name]
    return ModelCard(
        spec=spec,
        preprocessing=Preprocessing(
            size=spec.size,
            channels=spec.channels,
            mean=(0.485, 0.456, 0.406),  # ImageNet's
            std=(0.229, 0.224, 0.225),
        ),
        labels=tuple(f"class {i}" for i in range(spec.classes)),
    )


def golden(name: str, folder: Path) -> dict[str, Any]:
    """Every artifact a backend opens, held against the golden vectors: verdict by file."""
    bundle, backend = open_bundle(folder), get_backend(name)
    bundle.check()
    return {
        str(artifact.path): _judged(bundle, backend, str(artifact.path))
        for artifact in bundle.artifacts
        if artifact.format in backend.formats
    }


def _judged(bundle: Bundle, backend: Backend, path: str) -> str:
    artifact = next(a for a in bundle.artifacts if str(a.path) == path)
    if isinstance(backend, Selective) and (missing := backend.refuses(artifact)):
        return f"skipped: {missing.reason}"
    index = load_index(bundle.root / FOLDER)
    limit = index.tolerances[artifact.precision].logits
    worst = 0.0
    try:
        with backend.open(artifact, bundle.root) as session:
            for image in index.images:
                pixels = load_image(bundle.root / FOLDER, image)
                given: Array = preprocess(pixels, bundle.card.preprocessing)
                difference = session(given)[0].astype(np.float64) - np.array(image.logits)
                worst = max(worst, float(np.abs(difference).max()))
    except VggDeployError as error:
        return f"failed: {error.cause}"
    verdict = "within" if worst <= limit else "beyond"
    return f"{verdict}: largest difference of a logit {worst:.2e}, limit {limit:.2e}"


def main(words: list[str]) -> int:
    """Exit code of the command; 7 where a file is beyond its tolerance or broke."""
    kind, name, folder = words
    try:
        answer = make(name, Path(folder)) if kind == "make" else golden(name, Path(folder))
    except VggDeployError as error:
        print(f"error: {error.cause}; {error.remedy}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    print(json.dumps(answer))  # noqa: T201
    bad = [text for text in answer.values() if str(text).startswith(("beyond", "failed"))]
    return 7 if bad else 0


if __name__ == "__main__":
    end_with_parent()
    sys.exit(main(sys.argv[1:]))
