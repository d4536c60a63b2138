"""The networks of a check of a machine: trained where minutes are enough, else random weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.data.fashion_mnist import find_fashion_mnist
from vgg_deploy.errors import TrainingDiverged, VggDeployError, unknown_choice
from vgg_deploy.pipeline.untrained import untrained_bundle, untrained_card
from vgg_deploy.replacing import TRAINING
from vgg_deploy.spec import ModelCard, ModelSpec
from vgg_deploy.train.options import RunControl, TrainOptions
from vgg_deploy.train.outcome import METRICS_FILE

RANDOM = "He-normal, seed 0"
_WEIGHTS = "weights"  # in made_by of a checkpoint that was not trained
_CHANCE = 2.0  # times the accuracy of guessing; below it a network has learned nothing


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is trained."""

    arch: str
    width: float
    size: int
    fc_width: int = 4096
    data: str = "auto"
    full: TrainOptions | None = None  # None: not in the minutes that a check has
    sample: TrainOptions | None = None


# Accuracy is what int8 is judged by, so networks are trained, as far as the device can in minutes.
# On the sample with the same bits each time: a machine that is lent again has an empty disk.
NETWORKS = {
    "vgg16": Wanted(arch="vgg16", width=1.0, size=224, full=TrainOptions(epochs=2)),
    "vgg11": Wanted(
        arch="vgg11",
        width=0.25,
        size=64,
        full=TrainOptions(epochs=3),
        sample=TrainOptions(epochs=8, deterministic=True),
    ),
    "tiny": Wanted(
        arch="1x8-1x16-2x16_bn",
        width=1.0,
        size=32,
        fc_width=64,
        data="sample",
        sample=TrainOptions(recipe="modern-bn", epochs=2, deterministic=True),
    ),
}


def options_for(name: str, device: str) -> TrainOptions | None:
    """How a network is trained on a device; None where it gets random weights."""
    network = wanted(name)
    if network.data == "sample" or find_fashion_mnist() is None:
        return network.sample
    if name == "vgg16" and device == "cpu":  # hours
        return None
    return network.full


def wanted(name: str) -> Wanted:
    """The network of that name, or ``UsageError`` with the nearest one."""
    if name not in NETWORKS:
        raise unknown_choice("network", name, NETWORKS)
    return NETWORKS[name]


def make(name: str, folder: Path, device: str, *, random: bool = False) -> dict[str, object]:
    """A bundle with the weights of a network; one that is there and still valid stays.

    Random ones with ``random``, where training would take too long, and where it ended near
    chance: nothing could be verified beside a network that answers the same to every image.
    """
    wanted(name)
    options = None if random else options_for(name, device)
    if options is None or _is_random(folder):
        return _told(_random(name, folder), None)
    try:
        bundle, accuracy = _trained(name, folder, options)
    except TrainingDiverged:
        return _told(_random(name, folder), None)
    if accuracy < _CHANCE / bundle.card.spec.classes:
        return _told(_random(name, folder), accuracy)
    return _told(bundle, accuracy)


def _told(bundle: Bundle, accuracy: float | None) -> dict[str, object]:
    """What the check keeps: the digest, and which weights these are."""
    weights = bundle.checkpoint.made_by.get(_WEIGHTS, "trained")
    return {"sha256": bundle.checkpoint.sha256, "weights": weights, "test_accuracy": accuracy}


def _trained(name: str, folder: Path, options: TrainOptions) -> tuple[Bundle, float]:
    from vgg_deploy.pipeline.request import TrainRequest
    from vgg_deploy.pipeline.train import train_bundle

    network = wanted(name)
    data = "sample" if options == network.sample else network.data
    request = TrainRequest(
        arch=network.arch,
        width=network.width,
        size=network.size,
        fc_width=network.fc_width,
        data=data,
        options=options,
    )
    control = RunControl(resume="may")
    bundle = train_bundle(folder, request, replace=True, reuse=True, control=control)
    lines = (folder / TRAINING / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    return bundle, max(float(json.loads(line)["test_accuracy"]) for line in lines)


def _is_random(folder: Path) -> bool:
    """Whether an earlier call has put random weights there, whatever the reason was."""
    try:
        bundle = open_bundle(folder)
        random = bundle.checkpoint.made_by.get(_WEIGHTS) == RANDOM
    except VggDeployError:
        return False
    return random and bundle.problem(bundle.checkpoint) is None


def _random(name: str, folder: Path) -> Bundle:
    """He-normal weights, seed 0: times do not depend on them, and their logits follow the input."""
    if _is_random(folder):
        return open_bundle(folder)
    import torch

    from vgg_deploy.train.recipes import RECIPES
    from vgg_deploy.train.setup import initial_model

    card = _card(name)
    torch.manual_seed(0)
    state = initial_model(card.spec, RECIPES["modern"]).state_dict()
    made_by = {_WEIGHTS: RANDOM, "torch": str(torch.__version__)}
    return untrained_bundle(folder, card, state, made_by, replace=True, own=(TRAINING,))


def _card(name: str) -> ModelCard:
    """ImageNet's preprocessing for the full-size network; no data set that it would know."""
    network = wanted(name)
    if name == "vgg16":
        spec = ModelSpec.named("vgg16")
    else:
        spec = ModelSpec.named(
            network.arch, width=network.width, size=network.size, channels=1, classes=10,
            fc_width=network.fc_width,
        )  # fmt: skip
    return untrained_card(spec)
