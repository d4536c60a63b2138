"""Whether a bundle's manifest describes the network that its checkpoint holds."""

from __future__ import annotations

from dataclasses import fields

from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import DigestMismatch, RefusedInput
from vgg_deploy.model.checkpoint import read_card


def manifest_problem(bundle: Bundle) -> str | None:
    """What ``manifest.json`` has otherwise than the checkpoint's header, or None.

    None also for a bundle without its checkpoint, and for one whose header cannot be read: its
    digest tells that.
    """
    found = bundle.find("checkpoint")
    if found is None or not bundle.path(found).is_file():
        return None
    try:
        own, told = read_card(bundle.path(found)), bundle.card
    except RefusedInput:
        return None
    other = [f.name for f in fields(own) if getattr(own, f.name) != getattr(told, f.name)]
    return f"has other {', '.join(other)} than the checkpoint" if other else None


def require_described(bundle: Bundle) -> None:
    """Raise ``DigestMismatch`` where the manifest describes another model than its checkpoint."""
    if problem := manifest_problem(bundle):
        raise DigestMismatch(
            f"{bundle.root / 'manifest.json'} {problem}: it describes another model",
            "restore manifest.json, or make the bundle again with train or load",
        )
