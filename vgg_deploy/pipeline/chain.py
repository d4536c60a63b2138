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
from vgg_deploy.verify.tolerance import TOLERANCES

AS_PARENT = "as its parent"
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
    # parents of a file that differs were looked for even where they were not asked for
    absent = "no backend here opens it" if ran.row.verdict == "different" else "not asked for"
    hops: list[Hop] = []
    before: Logits | None = exact
    for parent, child in pairwise(line):
        one = chosen[child.sha256]
        hop = _hop(parent, child, one, before, absent)
        if hops and hops[-1].ok is False and _adds_nothing(hop):
            hop = replace(hop, ok=None, note=AS_PARENT)
        hops.append(hop)
        before = one.outputs if one else None
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
    """The run of a file that speaks for it: the same backend's, else the closest one.

    One that failed says nothing of the file, so it speaks only where there is no other.
    """
    runs = [r for r in everything if r.artifact.sha256 == artifact.sha256]
    return min(
        runs,
        key=lambda r: (r.row.verdict == "failed", r.backend.name != backend, _error(r)),
        default=None,
    )


def _error(ran: Ran) -> float:
    figure = ran.row.figure("rel_l2")
    return figure.value if figure and figure.value is not None else float("inf")


def _hop(
    parent: Artifact, child: Artifact, ran: Ran | None, before: Logits | None, absent: str
) -> Hop:
    """One step; ``before`` are the parent's outputs, ``absent`` says why nothing ran."""
    names = {"parent": str(parent.path), "child": str(child.path)}
    if ran is None or ran.row.verdict == "failed":
        note = ran.row.reason if ran else f"not run: {absent}"
        return Hop(**names, backend="", rel_l2=None, limit=None, added=None, ok=None, note=note)
    figure = ran.row.figure("rel_l2")
    return Hop(
        **names,
        backend=ran.backend.name,
        rel_l2=figure.value if figure else None,
        limit=figure.limit if figure else None,
        added=_added(ran.outputs, before),
        ok=ran.row.verdict == "equivalent",
        note="" if figure else ran.row.reason,
    )


def _adds_nothing(hop: Hop) -> bool:
    """Whether a step is wrong only because its accuracy is, which its parent has, too."""
    rounding = TOLERANCES["fp32"].rel_l2_floor
    by_closeness = hop.ok is not False or hop.limit is not None
    return not by_closeness and hop.added is not None and hop.added <= rounding


def _added(outputs: Logits | None, before: Logits | None) -> float | None:
    """Largest distance between the child's and the parent's outputs; None without both."""
    if outputs is None or before is None:
        return None
    seen = np.isfinite(outputs).all(axis=1) & np.isfinite(before).all(axis=1)
    return float(distances(outputs[seen], before[seen]).max()) if seen.any() else None


def _blame(ran: Ran, hops: Sequence[Hop], everything: Sequence[Ran]) -> str:
    """One clause: the first hop that is not in order, or the runtime alone."""
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
    if not hops:
        return f"{ran.backend.name} runs the checkpoint itself"
    last = next(i for i, hop in enumerate(hops) if hop.ok is False)  # its own at the latest
    first = last
    while first and hops[first - 1].ok is None:  # nothing is known of what was not run
        first -= 1
    return f"the error enters between {hops[first].parent} and {hops[last].child}" + _by(
        hops[last], everything
    )


def _by(hop: Hop, everything: Sequence[Ran]) -> str:
    """Whether it may be the runtime and not the step: only where a second one agrees it is not."""
    runs = [other for other in everything if str(other.artifact.path) == hop.child]
    passes = [other.backend.name for other in runs if other.row.verdict == "equivalent"]
    if passes:
        return f", by {hop.backend}: the file passes in {passes[0]}"
    if len({other.backend.name for other in runs if other.row.verdict == "different"}) > 1:
        return ""
    return f", by that step or by {hop.backend}, which alone ran the file"
