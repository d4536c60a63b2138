"""Whether a bundle's files are still those that its manifest describes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vgg_deploy.bundle import Bundle
from vgg_deploy.pipeline.watch import Watcher


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
