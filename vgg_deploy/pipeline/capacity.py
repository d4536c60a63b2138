"""``plan-capacity``: replicas for a load, from what bench measured in this bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vgg_deploy import stored
from vgg_deploy.artifact import Artifact
from vgg_deploy.bench.batching import Seconds, ServiceTimes
from vgg_deploy.bench.capacity import (
    CandidatePlan,
    CapacityOptions,
    CapacityReport,
    OutOfReach,
    Plan,
    grown,
    plan,
)
from vgg_deploy.bench.rules import calls_mark
from vgg_deploy.bench.stats import MIN_QUERIES, NS
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import RefusedInput, counted
from vgg_deploy.files import word
from vgg_deploy.pipeline.benchinput import not_taken
from vgg_deploy.pipeline.verified import as_shown
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.pipeline.whole import problems_of
from vgg_deploy.report.standing import is_refusal
from vgg_deploy.results import BENCH_FILE, BenchReport, Subject, Timing

_Groups = Mapping[Subject, list[Timing]]
_FEWEST = MIN_QUERIES[90]  # samples of a size: the tail of the service time decides the p99


def plan_capacity(
    bundle: Bundle,
    options: CapacityOptions,
    backends: Iterable[str] | None = None,
    watch: Watcher | None = None,
) -> CapacityReport:
    """Plan for each file that bench timed in this bundle, on ``backends`` or on all.

    What verify did not find equivalent, or what was changed since, has a reason and no plan.
    Raises ``RefusedInput`` when nothing usable was timed, or when no file keeps the limit.
    """
    watch = watch or Silent()
    report = as_shown(bundle.root, stored.load(BenchReport, _bench_file(bundle)))
    groups = _timed(bundle, report, set(backends or ()))
    out = _out(bundle, groups, watch)
    watch.begin("plan", len(groups) + 1, "plans")  # and the first one at other loads
    candidates = []
    files = {artifact.sha256: artifact for artifact in bundle.artifacts}
    for subject, rows in groups.items():
        candidates.append(_candidate(files[subject.sha256], rows, options, out[subject]))
        watch.advance()
    candidates.sort(key=lambda c: (c.plan is None, c.plan.load.replicas if c.plan else 0))
    first = candidates[0]
    if first.plan is None:
        raise _nothing_fits(candidates)
    usable = [row for row in groups[first.subject] if _usable(row)]
    service = service_times(usable, files[first.subject.sha256])
    candidates[0] = replace(first, plan=grown(service, options, first.plan))
    watch.advance()
    return CapacityReport(
        options=options,
        environment=report.environment,
        measured_at=report.made_at,
        candidates=tuple(candidates),
    )


def _nothing_fits(candidates: Sequence[CandidatePlan]) -> RefusedInput:
    """The error that names the file whose p99 would be the shortest, where any was planned."""
    planned = [c for c in candidates if c.idle_p99_ms is not None]
    if planned:
        nearest = min(planned, key=lambda c: c.idle_p99_ms or 0.0)
        remedy = "allow a longer p99, or bench a faster backend, precision or machine"
    else:
        nearest = max(candidates, key=lambda c: 1 in c.batches)
        remedy = "export or build the file again, then verify and bench it"
    return RefusedInput(f"{nearest.subject.id}: {nearest.reason}", remedy)


def _out(bundle: Bundle, groups: _Groups, watch: Watcher) -> Mapping[Subject, str]:
    """Why a file must not be deployed, empty where nothing speaks against it."""
    refused = {
        subject: next((mark for row in rows for mark in row.marks if is_refusal(mark)), "")
        for subject, rows in groups.items()
    }
    problems = problems_of(bundle, (s.sha256 for s, said in refused.items() if not said), watch)
    return {subject: said or problems[subject.sha256] for subject, said in refused.items()}


def service_times(rows: Iterable[Timing], artifact: Artifact) -> ServiceTimes:
    """Service times of the rows of one subject, in seconds; ``artifact`` says what it takes.

    A server also copies input and output, so the runs, which are timed without, are stretched to
    the median of the calls from host to host. Their spread stays: there are far more of them.
    """
    measured = [(row.batch, _seconds(row)) for row in rows]
    return ServiceTimes(measured, lambda size: not not_taken(artifact, size))


def _seconds(row: Timing) -> Seconds:
    runs = np.asarray(row.samples_ns, np.float64) / NS
    if not row.end_to_end_ns:
        return runs
    stretched: Seconds = runs * (np.median(row.end_to_end_ns) / NS / np.median(runs))
    return stretched


def _bench_file(bundle: Bundle) -> Path:
    path = bundle.root / BENCH_FILE
    if not path.exists():
        raise RefusedInput(
            f"{bundle.root} has no timings",
            f"measure some: vgg-deploy bench {word(bundle.root)} --batch 1 --batch 4 --batch 16",
        )
    return path


def _timed(bundle: Bundle, report: BenchReport, backends: set[str]) -> _Groups:
    """Rows by subject, of files that the bundle still holds as they were, usable or not."""
    current = {a.sha256 for a in bundle.artifacts}
    groups: dict[Subject, list[Timing]] = {}
    for row in report.rows:
        wanted = not backends or row.subject.backend in backends
        if wanted and row.status != "skipped" and row.subject.sha256 in current:
            groups.setdefault(row.subject, []).append(row)
    if absent := backends - {subject.backend for subject in groups}:
        raise _no_timings(bundle, absent)
    if not any(_usable(row) and row.batch == 1 for rows in groups.values() for row in rows):
        raise _no_timings(bundle, backends)
    return groups


def _no_timings(bundle: Bundle, backends: set[str]) -> RefusedInput:
    named = f" of {', '.join(sorted(backends))}" if backends else ""
    options = "".join(f" -b {name}" for name in sorted(backends))
    return RefusedInput(
        f"{bundle.root} has no timings{named} at batch 1 with at least {_FEWEST} runs of a "
        "file that is still there",
        f"measure some: vgg-deploy bench {word(bundle.root)}{options} "
        "--batch 1 --batch 4 --batch 16",
    )


def _usable(row: Timing) -> bool:
    return len(row.samples_ns) >= _FEWEST


def _left_out(row: Timing) -> str:
    """Why a row is not planned with."""
    if row.status != "measured":
        return f"batch {row.batch} is left out: {row.status}, {row.reason}"
    runs = counted(len(row.samples_ns), "run")
    return f"batch {row.batch} is left out: {runs}, it takes {_FEWEST}"


def _candidate(
    artifact: Artifact, timed: list[Timing], options: CapacityOptions, out: str
) -> CandidatePlan:
    rows = [row for row in timed if _usable(row)]
    left_out = tuple(_left_out(row) for row in timed if not _usable(row))
    found: Plan | None = None
    idle_ms: float | None = None
    reason = out or "no usable timing at batch 1"
    padded: tuple[str, ...] = ()
    if not out and any(row.batch == 1 for row in rows):
        service = service_times(rows, artifact)
        padded = _padded(service)
        try:
            found, reason = plan(service, options), ""
        except OutOfReach as refused:
            reason, idle_ms = refused.cause, refused.idle_ms
    return CandidatePlan(
        subject=timed[0].subject,
        batches=tuple(sorted(row.batch for row in rows)),
        clock="host to host" if all(row.end_to_end_ns for row in rows) else "run alone",
        marks=tuple(mark for mark in (*_marks(rows), *left_out, *padded) if mark != out),
        plan=found,
        reason=reason,
        idle_p99_ms=idle_ms,
    )


def _padded(service: ServiceTimes) -> tuple[str, ...]:
    """The batches that a server has to fill up, because the file does not take them."""
    return tuple(
        f"batches of {low if low == high else f'{low} to {high}'} are padded to {run}"
        for run, (low, high) in service.padded.items()
    )


def _marks(rows: Iterable[Timing]) -> tuple[str, ...]:
    """What speaks against any of the rows, one of each kind: "noisy: quartiles ±12 %"."""
    said = (mark for row in rows for mark in (*row.marks, *calls_mark(row.end_to_end_ns)))
    kinds = {mark.partition(":")[0]: mark for mark in said}
    return tuple(kinds.values())
