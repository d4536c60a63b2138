"""One backend of a check of a machine: verified, held against golden vectors, or timed.

Each works on the part of a bundle that the backend opens, so that nothing else is read and hashed.
What is timed is given away batch by batch: a process that is ended loses the current one only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vgg_deploy import stored
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Array, Session
from vgg_deploy.bench.limits import measure_ceilings
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.environment import capture, now
from vgg_deploy.errors import BackendNotAvailable, NotEquivalent, VggDeployError
from vgg_deploy.golden import FOLDER, GoldenIndex, load_image, load_index, refuse_vacuous
from vgg_deploy.pipeline.bench import BenchOptions, bench_bundle, bench_error
from vgg_deploy.pipeline.cells import Cell, Selection, is_for, plan
from vgg_deploy.results import (
    SCHEMA_VERSION,
    VERIFY_FILE,
    BenchReport,
    Ceiling,
    Comparison,
    Figure,
    VerifyReport,
)
from vgg_deploy.verify.compare import broken

GOLDEN_SOURCE = "golden vectors: where no torch is; int8 and fp8 are only kept from nonsense"


def part_of(root: Path, name: str, precision: str = "") -> Bundle:
    """The bundle at ``root`` with what a backend opens and what that was made from, alone.

    ``precision`` chooses among engines. An ONNX file needs its parent, another ONNX file.
    """
    bundle, backend = open_bundle(root), get_backend(name)
    kept = {
        a.sha256
        for a in bundle.artifacts
        if a.format in backend.formats and is_for(backend, a) and precision in ("", a.precision)
    }
    for artifact in reversed(bundle.artifacts):  # what it was made from was added before it
        if artifact.sha256 in kept and artifact.parent:
            kept.add(artifact.parent)
    chosen = tuple(a for a in bundle.artifacts if a.sha256 in kept or a.format == "checkpoint")
    return replace(bundle, manifest=replace(bundle.manifest, artifacts=chosen))


def verify(
    name: str, root: Path, precision: str, batches: Sequence[int], images: int
) -> tuple[VerifyReport, VggDeployError | None]:
    """Against the float64 reference, which needs torch."""
    from vgg_deploy.pipeline.verify import VerifyOptions, verdict_error, verify_bundle

    options = VerifyOptions(
        selection=Selection(backends=(name,)), images=images, batches=tuple(batches)
    )
    report = verify_bundle(part_of(root, name, precision), options)
    return report, verdict_error(report)


def bench(
    name: str,
    root: Path,
    precision: str,
    batches: Sequence[int],
    seconds: float,
    give: Callable[[BenchReport], None],
) -> VggDeployError | None:
    """Time one batch size after the other; ``give`` gets a report of each."""
    error: VggDeployError | None = None
    bundle = part_of(root, name, precision)
    for size in batches:
        options = BenchOptions(
            selection=Selection(backends=(name,)),
            batches=(size,),
            seconds=seconds,
            ceilings=False,
            layers=False,
        )
        report = bench_bundle(bundle, options)
        give(report)
        error = error or bench_error(report)
    return error


def limits(device: str) -> tuple[Ceiling, ...]:
    """What this machine can do at most."""
    found = measure_ceilings(device)
    if not found:
        raise BackendNotAvailable(
            f"no ceiling of {device} can be measured here", "needs torch that sees the device"
        )
    return found


def golden(
    name: str, root: Path, precision: str, batches: Sequence[int]
) -> tuple[VerifyReport, VggDeployError | None]:
    """Against the golden vectors, without torch; stored as a verdict that bench reads.

    Every image fills a whole batch of each size: an engine has a profile, with kernels of its own,
    for each. ``BackendNotAvailable`` where there is nothing that the backend can judge.
    """
    bundle = part_of(root, name, precision)
    bundle.check()
    index = load_index(bundle.root / FOLDER)
    cells = plan(bundle, Selection(backends=(name,)))
    report = VerifyReport(
        schema_version=SCHEMA_VERSION,
        made_at=now(),
        environment=capture(),
        key="golden",  # of no run of verify
        inputs={"golden": len(index.images)},
        image_source=GOLDEN_SOURCE,
        batches=tuple(batches),
        reference=index.reference,
        rows=tuple(_judged(cell, bundle, index, batches) for cell in cells),
    )
    stored.save(bundle.root / VERIFY_FILE, report)
    return report, _golden_error(report)


def _judged(cell: Cell, bundle: Bundle, index: GoldenIndex, batches: Sequence[int]) -> Comparison:
    row = Comparison(subject=cell.subject, verdict="skipped", reason=cell.reason)
    if cell.artifact is None or cell.missing:
        return row
    sizes = _sizes(cell.artifact, batches)
    limit = index.tolerances[cell.subject.precision].logits
    try:
        refuse_vacuous(index, cell.subject.precision)
        with cell.backend.open(cell.artifact, bundle.root) as session:
            worst = _largest_difference(session, bundle, index, sizes)
    except VggDeployError as error:
        return replace(row, verdict="failed", reason=error.cause)
    except Exception as error:  # a backend may break in any way: that is a row, not the end
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return replace(row, verdict="failed", reason=f"{type(error).__name__}: {said}")
    ok = worst is not None and worst <= limit
    told = "NaN or infinite logits" if worst is None else f"a logit is off by {worst:.2e}"
    return replace(
        row,
        verdict="equivalent" if ok else "different",
        reason="" if ok else f"{told}, limit {limit:.2e}",
        figures=(Figure(name="max_abs", value=worst, limit=limit, ok=ok),),
    )


def _sizes(artifact: Artifact, batches: Sequence[int]) -> tuple[int, ...]:
    """Batch sizes to run: what each profile was tuned for, else those that are timed."""
    if artifact.target is None:
        return tuple(dict.fromkeys((1, *batches)))
    return tuple(dict.fromkeys(best for _, best, _ in artifact.target.batches))


def _largest_difference(
    session: Session, bundle: Bundle, index: GoldenIndex, sizes: Sequence[int]
) -> float | None:
    """Of any logit, image and place in a batch; None for outputs that are no numbers."""
    from vgg_deploy.data.preprocess import preprocess

    worst = 0.0
    for image in index.images:
        pixels = load_image(bundle.root / FOLDER, image)
        given: Array = preprocess(pixels, bundle.card.preprocessing)
        wanted = np.array(image.logits)
        for size in sizes:
            logits = session(np.repeat(given, size, axis=0))
            if broken(logits, (size, len(wanted))):
                return None
            worst = max(worst, float(np.abs(logits.astype(np.float64) - wanted).max()))
    return worst


def _golden_error(report: VerifyReport) -> VggDeployError | None:
    bad = [row for row in report.rows if row.verdict in ("different", "failed")]
    if bad:
        return NotEquivalent(
            f"{len(bad)} of {len(report.rows)} are not shown to be within the golden vectors' "
            f"tolerance: {bad[0].subject.id}, {bad[0].reason}",
            "build or export it again",
        )
    return None
