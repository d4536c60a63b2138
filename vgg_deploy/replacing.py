"""Where a new bundle may go, and what goes with the one that it replaces."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from vgg_deploy.artifact import Artifact
from vgg_deploy.errors import RefusedInput, VggDeployError, os_errors
from vgg_deploy.files import remove, word
from vgg_deploy.golden import FOLDER as GOLDEN_FOLDER
from vgg_deploy.manifest import MANIFEST, has_manifest, read_manifest

TRAINING = "training"  # folder of a run inside the bundle
# Of a bundle's model, beside its artifacts: results, golden vectors, the training run, reports.
RECORDS = ("results", GOLDEN_FOLDER, TRAINING, "report.html", "report.md", "report.json")
CHECKPOINTS = f"{TRAINING}/checkpoints"  # of a run that was interrupted


def refuse_existing(
    root: Path, *, replace: bool, make: bool = True, own: Collection[str] = ()
) -> None:
    """Refuse, before any work is done, a place where a new bundle must not go.

    ``own`` are folders that the maker may have left there itself.
    """
    if any(parent.exists() and not parent.is_dir() for parent in root.parents):
        raise RefusedInput(f"{root} lies below a file", "choose another folder with -o")
    if root.exists() and not root.is_dir():
        raise RefusedInput(f"{root} is a file, not a folder", "choose a folder with -o")
    if has_manifest(root) and not replace:
        raise RefusedInput(
            f"{root} already is a bundle", "choose another folder with -o, or add --replace"
        )
    if strangers := _strangers(root, own):
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        raise RefusedInput(
            f"{root} is no bundle, but holds {strangers[0]}{more}, as a bundle would",
            "choose another folder with -o, or move that away: it would be overwritten",
        )
    if not own and any((root / CHECKPOINTS).glob("step-*")):
        raise RefusedInput(
            f"{root} holds a training that was interrupted",
            "go on with the command that began it, with --resume, or delete "
            f"{word(root / TRAINING)}",
        )
    existing = next(p for p in (root, *root.absolute().parents) if p.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise RefusedInput(
            f"{existing} cannot be written to",
            "choose another folder with -o, or change its rights",
        )
    if make:
        with os_errors(f"write to {root}"):
            root.mkdir(parents=True, exist_ok=True)


def _strangers(root: Path, own: Collection[str]) -> list[str]:
    """What would be overwritten or removed some day in a folder that is no bundle."""
    if not root.is_dir() or has_manifest(root):
        return []
    names = sorted(path.name for path in root.iterdir())
    ours = (MANIFEST, *RECORDS)
    taken = [n for n in names if n in ours or n.startswith(("checkpoint.", "model."))]
    return [name for name in taken if name not in own]


def replaced(root: Path) -> tuple[Artifact, ...]:
    """What a new bundle takes the place of; a manifest that cannot be read names no files."""
    try:
        return read_manifest(root).artifacts if has_manifest(root) else ()
    except VggDeployError:
        return ()


def drop_records(root: Path, own: Collection[str]) -> None:
    """Remove what was measured and told of an earlier checkpoint: all that can be removed."""
    errors: list[VggDeployError] = []
    for name in RECORDS:
        if name not in own:
            try:
                remove(root / name)
            except VggDeployError as error:
                errors.append(error)
    if errors:
        raise RefusedInput(
            f"{root} is made, but a record of the model before stays: {errors[0].cause}",
            "remove it yourself",
        ) from errors[0]
