"""Whether a bundle's files are still those that its manifest describes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vgg_deploy.artifact import Artifact
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import DigestMismatch
from vgg_deploy.model.checkpoint import read_card
from vgg_deploy.pipeline.watch import Watcher
from vgg_deploy.verify.said import require_own


def problems_of(bundle: Bundle, digests: Iterable[str], watch: Watcher) -> Mapping[str, str]:
    """By SHA-256 in the manifest: what is wrong with the file, empty if nothing is."""
    current = {a.sha256: a for a in bundle.artifacts}
    wanted = list(dict.fromkeys(digests))
    if wanted:
        watch.begin("check the files", len(wanted), "files")
    problems = {}
    for sha256 in wanted:
        found = bundle.problem(current[sha256])
        problems[sha256] = f"the file {found}" if found else ""
        watch.advance()
    return problems


def require_card(bundle: Bundle, artifact: Artifact) -> None:
    """Raise ``DigestMismatch`` where the manifest has not the file's labels or preprocessing.

    An engine holds neither: the checkpoint speaks for it, where it is there.
    """
    require_own(bundle.path(artifact), artifact.format, bundle.card)
    checkpoint = bundle.find("checkpoint")
    if artifact.format not in ("checkpoint", "engine") or checkpoint is None:
        return
    path = bundle.path(checkpoint)
    if not path.is_file():  # shipped without
        return
    own, told = read_card(path), bundle.card
    if (own.labels, own.preprocessing) != (told.labels, told.preprocessing):
        raise DigestMismatch(
            f"{path} holds other labels or preprocessing than the bundle's manifest",
            "restore manifest.json, or make the bundle again",
        )
