"""The bundle that ``load --replace`` takes the place of: what of it is kept, and what goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.errors import VggDeployError
from vgg_deploy.golden import FOLDER as GOLDEN_FOLDER
from vgg_deploy.manifest import has_manifest
from vgg_deploy.model.checkpoint import ASSUMED_KEY, load_state, read_card, read_header
from vgg_deploy.pipeline.asked_preprocessing import AskedPreprocessing, asked_before
from vgg_deploy.pipeline.labels_file import read_labels
from vgg_deploy.replacing import RECORDS, TRAINING
from vgg_deploy.spec import ModelCard, ModelSpec, unnamed_labels

if TYPE_CHECKING:
    from torch import Tensor

_CALLED = {
    "results": "results",
    GOLDEN_FOLDER: "golden vectors",
    TRAINING: "its training's records",
}


def bundle_before(root: Path) -> Bundle | None:
    """The bundle that is there, if its manifest can be read."""
    try:
        return open_bundle(root) if has_manifest(root) else None
    except VggDeployError:
        return None


def asked_or_kept(
    asked: AskedPreprocessing, spec: ModelSpec, before: Bundle | None
) -> tuple[AskedPreprocessing, tuple[str, ...]]:
    """What is told of the preprocessing, else what was for the same input the time before."""
    checkpoint = before.find("checkpoint") if before else None
    if asked.told or before is None or checkpoint is None:
        return asked, ()
    old, there = asked_before(checkpoint.made_by), before.card.spec
    if not old.told or (there.size, there.channels) != (spec.size, spec.channels):
        return asked, ()
    return old, (f"preprocessing kept of the bundle before: {old.as_options}",)


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Labels, where they are from, and what a user is to know of that."""

    names: tuple[str, ...]
    source: Literal["own", "given", "kept"] = "own"
    notes: tuple[str, ...] = ()


def labels_or_kept(file: Path | None, own: tuple[str, ...], before: Bundle | None) -> Labels:
    """The labels that are given, else the weights' own; without any those of the bundle before."""
    if file is not None:
        return Labels(names=read_labels(file, len(own)), source="given")
    old = before.card.labels if before else own
    if old == own or len(old) != len(own):
        return Labels(names=own)
    if own == unnamed_labels(len(own)):
        note = "labels kept of the bundle before; --labels gives others"
        return Labels(names=old, source="kept", notes=(note,))
    note = "labels are the weights' own, no longer those of the bundle before"
    return Labels(names=own, notes=(note,) if old != unnamed_labels(len(own)) else ())


def what_goes(root: Path, before: Bundle | None) -> list[str]:
    """What was made from the weights before, as it is told to a user."""
    artifacts = before.artifacts if before else ()
    engines = sum(a.format == "engine" for a in artifacts)
    exports = sum(a.format not in ("engine", "checkpoint") for a in artifacts)
    counts = [(exports, "export"), (engines, "engine")]
    goes = [f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts if count]
    there = [name for name in RECORDS if (root / name).exists()]
    return goes + list(dict.fromkeys(_CALLED.get(name, "reports") for name in there))


def holds(bundle: Bundle, card: ModelCard, state: Mapping[str, Tensor], assumed: str) -> bool:
    """Whether a bundle's checkpoint is whole and would be made the same again."""
    import torch

    checkpoint = bundle.find("checkpoint")
    if checkpoint is None or bundle.card != card:
        return False
    path = bundle.path(checkpoint)
    try:
        if bundle.problem(checkpoint) or read_card(path) != card:
            return False
        there = load_state(path)
        same_words = read_header(path).get(ASSUMED_KEY, "") == assumed
    except VggDeployError:
        return False
    return (
        same_words
        and there.keys() == state.keys()
        and all(torch.equal(there[key], state[key]) for key in there)
    )
