"""One artifact in one backend at several batch sizes, timed; failures are rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Array, Backend
from vgg_deploy.bench.cold import ColdStart, cold_start
from vgg_deploy.bench.measure import MeasureOptions, measure
from vgg_deploy.errors import VggDeployError
from vgg_deploy.results import Subject, Timing


def bench_cell(
    backend: Backend,
    artifact: Artifact,
    root: Path,
    subject: Subject,
    batches: Sequence[int],
    make_input: Callable[[int], Array],
    options: MeasureOptions,
    *,
    factory: str,
    marks: tuple[str, ...] = (),
) -> tuple[Timing, ...]:
    """A ``Timing`` per batch size; one that breaks does not stop the others."""
    if missing := backend.probe():
        reason = f"{missing.reason}; {missing.remedy}"
        return tuple(
            Timing(subject=subject, batch=size, status="skipped", reason=reason) for size in batches
        )
    rows = []
    for size in batches:
        batch = make_input(size)
        cold = cold_start(factory, backend.name, artifact, root, batch)
        if cold.error:
            rows.append(_failed(subject, size, cold.error))
            continue
        try:
            with backend.open(artifact, root) as session:
                measured = measure(session, batch, options)
        except VggDeployError as error:
            rows.append(_failed(subject, size, f"{error.cause}; {error.remedy}"))
            continue
        except Exception as error:  # a backend may break in any way: that is a row, not the end
            first = next(iter(str(error).splitlines()), "")
            rows.append(_failed(subject, size, f"{type(error).__name__}: {first}"))
            continue
        rows.append(
            _timing(
                subject,
                size,
                cold,
                measured.samples_ns,
                measured.warmup_runs,
                (*marks, *measured.marks),
            )
        )
    return tuple(rows)


def _failed(subject: Subject, batch: int, reason: str) -> Timing:
    return Timing(subject=subject, batch=batch, status="failed", reason=reason)


def _timing(
    subject: Subject,
    batch: int,
    cold: ColdStart,
    samples: tuple[int, ...],
    warmup: int,
    marks: tuple[str, ...],
) -> Timing:
    return Timing(
        subject=subject,
        batch=batch,
        status="measured",
        samples_ns=samples,
        warmup_runs=warmup,
        load_s=cold.load_s,
        import_s=cold.import_s,
        first_s=cold.first_s,
        peak_memory_bytes=cold.peak_memory_bytes,
        marks=marks,
    )
