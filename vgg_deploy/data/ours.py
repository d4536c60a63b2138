"""What vgg-deploy itself wrote into a folder of images: the pictures of a training are no class."""

from __future__ import annotations

import json
from pathlib import Path

_RUN = "training"  # the folder of a run in its bundle
_SIGNS = (".run.lock", "metrics.jsonl")
_BELOW = {"checkpoints", "tensorboard"}
_RECORDS = ("results", "golden")  # of a bundle, without images
_MANIFEST = "manifest.json"


def is_ours(folder: Path) -> bool:
    """Whether a folder is that of a training, or of what a bundle keeps beside it."""
    if folder.name in _RECORDS:
        return _has_manifest(folder.parent)
    if folder.name != _RUN or not any((folder / sign).is_file() for sign in _SIGNS):
        return False
    below = {p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")}
    return below <= _BELOW  # a split of that name has classes


def is_bundle(folder: Path) -> bool:
    """Whether a folder is a bundle, finished or not."""
    return is_ours(folder / _RUN) or _has_manifest(folder)


def _has_manifest(folder: Path) -> bool:
    """Whether there is a manifest of ours; web apps and other tools have one by that name, too."""
    try:
        document = json.loads((folder / _MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and {"schema_version", "artifacts"} <= document.keys()
