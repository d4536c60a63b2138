"""Which step between the checkpoint and a file added the error: every hop, judged by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Backend
from vgg_deploy.bundle import Bundle
from vgg_deploy.results import Comparison, Hop
from vgg_deploy.verify.compare import distances

Logits = NDArray[np.floating]


@dataclass(frozen=True)
class Ran:
    """One cell after it ran: its row and its logits ``[N, classes]``, None where it broke."""

    artifact: Artifact
    backend: Backend
    row: Comparison
    outputs: Logits | None


def ancestry(bundle: Bundle, artifact: Artifact) -> list[Artifact]:
    """From the checkpoint, or the oldest file that is known, to the artifact itself."""
    by_digest = {a.sha256: a for a in bundle.artifacts}
    line = [artifact]
    while (parent := by_digest.get(line[0].parent or "")) and parent not in line:
        line.insert(0, parent)
    return line


def with_hops(ran: Ran, everything: Sequence[Ran], bundle: Bundle, exact: Logits) -> Comparison:
    """The row with its hops, and for one that differs, the hop that is to blame."""
    if ran.row.verdict not in ("equivalent", "different"):
        return ran.row
    line = ancestry(bundle, ran.artifact)
    chosen = {a.sha256: _best(a, everything, ran.backend.name) for a in line[1:-1]}
    chosen[ran.artifact.sha256] = ran
    hops = []
    before = exact
    for parent, child in pairwise(line):
        one = chosen[child.sha256]
        hops.append(_hop(parent, child, one, before))
        if one is not None and one.outputs is not None:
            before = one.outputs
    row = replace(ran.row, hops=tuple(hops))
    if row.verdict != "different":
        return row
    return replace(row, reason=f"{row.reason}; {_blame(ran, hops, everything)}")


def not_run(
    row: Comparison, artifact: Artifact, bundle: Bundle, everything: Sequence[Ran]
) -> list[Artifact]:
    """Files between the checkpoint and one that differs that nobody has run yet."""
    if row.verdict != "different":
        return []
    known = {ran.artifact.sha256 for ran in everything}
    return [a for a in ancestry(bundle, artifact)[1:-1] if a.sha256 not in known]


def _best(artifact: Artifact, everything: Sequence[Ran], backend: str) -> Ran | None:
    """The run of a file that speaks for it: the same backend's, else the closest one."""
    runs = [r for r in everything if r.artifact.sha256 == artifact.sha256 and r.outputs is not None]
    return min(runs, key=lambda r: (r.backend.name != backend, _error(r)), default=None)


def _error(ran: Ran) -> float:
    figure = ran.row.figure("rel_l2")
    return figure.value if figure and figure.value is not None else float("inf")


def _hop(parent: Artifact, child: Artifact, ran: Ran | None, before: Logits) -> Hop:
    names = {"parent": str(parent.path), "child": str(child.path)}
    if ran is None or ran.outputs is None:
        note = ran.row.reason if ran else "not run: no backend here opens it"
        return Hop(
            **names, backend="", rel_l2=None, limit=None, added=None, ok=ran is None, note=note
        )
    figure = ran.row.figure("rel_l2")
    seen = np.isfinite(ran.outputs).all(axis=1) & np.isfinite(before).all(axis=1)
    added = float(distances(ran.outputs[seen], before[seen]).max()) if seen.any() else None
    return Hop(
        **names,
        backend=ran.backend.name,
        rel_l2=figure.value if figure else None,
        limit=figure.limit if figure else None,
        added=added,
        ok=ran.row.verdict == "equivalent",
    )


def _blame(ran: Ran, hops: Sequence[Hop], everything: Sequence[Ran]) -> str:
    """One clause: the first hop that is not in order, or the runtime alone."""
    first = next((hop for hop in hops if not hop.ok), None)
    others = [
        other.backend.name
        for other in everything
        if other.artifact.sha256 == ran.artifact.sha256 and other.row.verdict == "equivalent"
    ]
    if others:
        return (
            f"the file itself passes in {others[0]}, so it is {ran.backend.name} that adds the "
            "error"
        )
    if first is None:
        return f"{ran.backend.name} runs the checkpoint itself"
    return f"the error enters between {first.parent} and {first.child}"
