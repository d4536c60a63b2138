"""One artifact in one backend at several batch sizes, timed; failures are rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Array, Backend, Described
from vgg_deploy.bench.answers import UNREAD, require_same_answer
from vgg_deploy.bench.clock import stopwatch_for
from vgg_deploy.bench.cold import ColdStart, cold_start
from vgg_deploy.bench.measure import Instruments, Measurement, MeasureOptions, Tick, measure
from vgg_deploy.bench.nvml import probe_for
from vgg_deploy.environment import threads
from vgg_deploy.errors import VggDeployError, ran_out, says_ran_out
from vgg_deploy.results import Subject, Timing

NO_STREAM = "timed by the host's clock: this backend names no stream for CUDA events"


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
    begin: Callable[[int], Tick | None] = lambda _size: None,
) -> tuple[Timing, ...]:
    """A ``Timing`` per batch size; one that breaks does not stop the others.

    ``begin`` is told each batch size and gives what is to be told how the timing goes on. A cold
    start that takes too long costs its figures only: the row is measured, with the ``reason``.
    """
    if missing := backend.probe():
        reason = f"{missing.reason}; {missing.remedy}"
        return tuple(
            Timing(subject=subject, batch=size, status="skipped", reason=reason) for size in batches
        )
    rows = []
    for size in batches:
        tick = begin(size)
        try:
            batch = make_input(size)
            cold = cold_start(factory, backend.name, artifact, root, batch)
            if cold.error and not cold.late:
                rows.append(_failed(subject, size, cold.error, says_ran_out(cold.error)))
                continue
            row = _measured(backend, artifact, root, subject, batch, options, tick)
        except MemoryError as error:
            said = f"not enough memory; use a smaller batch ({error})"
            rows.append(_failed(subject, size, said, True))
        except VggDeployError as error:
            rows.append(_failed(subject, size, f"{error.cause}; {error.remedy}", ran_out(error)))
        except Exception as error:  # a backend may break in any way: that is a row, not the end
            first = next(iter(str(error).splitlines()), "")
            said = f"{type(error).__name__}: {first}"
            rows.append(_failed(subject, size, said, ran_out(error)))
        else:
            rows.append(_with_cold(row, cold))
    return tuple(rows)


def _measured(
    backend: Backend,
    artifact: Artifact,
    root: Path,
    subject: Subject,
    batch: Array,
    options: MeasureOptions,
    tick: Tick | None,
) -> Timing:
    probe = probe_for(subject.device)  # before anything of ours runs there
    with backend.open(artifact, root) as session:
        stopwatch = stopwatch_for(session, subject.device)
        using = Instruments(stopwatch=stopwatch, probe=probe, tick=tick)
        found = measure(session, batch, options, using)
        modes = dict(session.modes) if isinstance(session, Described) else {}
    if found.apart is not None:
        require_same_answer(found.apart, subject.precision, modes=modes)
    row = _timing(subject, batch.shape[0], found)
    unlike = subject.device == "cuda" and stopwatch.name == "host"
    more = [*([NO_STREAM] if unlike else []), *([UNREAD] if found.apart is None else [])]
    return replace(row, modes=modes, marks=(*row.marks, *more))


def _failed(subject: Subject, batch: int, reason: str, lacking: bool) -> Timing:
    """A row that broke; ``lacking``: because disk or memory ran out."""
    return Timing(subject=subject, batch=batch, status="failed", reason=reason, ran_out=lacking)


def _timing(subject: Subject, batch: int, found: Measurement) -> Timing:
    return Timing(
        subject=subject,
        batch=batch,
        status="measured",
        clock=found.clock,
        samples_ns=found.samples_ns,
        end_to_end_ns=found.end_to_end_ns,
        threads=threads() if subject.device == "cpu" else None,
        burst_runs=found.burst_runs,
        burst_ns=found.burst_ns,
        warmup_runs=found.warmup_runs,
        others_cores=found.others_cores,
        gpu=found.gpu,
        marks=found.marks,
    )


def _with_cold(row: Timing, cold: ColdStart) -> Timing:
    return replace(
        row,
        reason=f"no start-up figures: {cold.error}" if cold.late else "",
        load_s=cold.load_s,
        import_s=cold.import_s,
        first_s=cold.first_s,
        peak_memory_bytes=cold.peak_memory_bytes,
    )
