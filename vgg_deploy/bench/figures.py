"""The figures of a timing by name, and the conditions of ``--fail-if`` on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from vgg_deploy.bench.rules import calls_mark
from vgg_deploy.bench.stats import MIN_QUERIES, Stats, summarise
from vgg_deploy.errors import LimitNotMet, MeasurementNotValid, VggDeployError
from vgg_deploy.gates import Gate
from vgg_deploy.results import BenchReport, Timing

_MS, _MB = 1e3, 1e-6


def images_per_s(row: Timing) -> float:
    """Throughput: of runs enqueued together where that was measured, else of the mean latency."""
    if row.burst_runs:
        return row.batch * row.burst_runs / (row.burst_ns / 1e9)
    return _stats(row).images_per_second


def _stat(name: str, scale: float = _MS) -> Callable[[Timing], float | None]:
    return lambda row: _scaled(getattr(_stats(row), name), scale)


# What the rules of a timing say nothing about: they are not measured by the clock.
_UNTIMED = ("peak_memory_mb", "gpu_memory_mb", "file_mb")
_OF_CALLS = "end_to_end_ms"
FIGURES: Mapping[str, Callable[[Timing], float | None]] = {
    "p50_ms": _stat("p50"),
    "p90_ms": _stat("p90"),
    "p95_ms": _stat("p95"),
    "p99_ms": _stat("p99"),
    "mean_ms": _stat("mean"),
    "cv": _stat("cv", 1),
    "images_per_s": images_per_s,
    _OF_CALLS: lambda row: _scaled(_calls(row), _MS),
    "import_ms": lambda row: _scaled(row.import_s, _MS),
    "load_ms": lambda row: _scaled(row.load_s, _MS),
    "first_ms": lambda row: _scaled(row.first_s, _MS),
    "peak_memory_mb": lambda row: _scaled(row.peak_memory_bytes, _MB),
    "gpu_memory_mb": lambda row: _scaled(row.gpu.memory_bytes if row.gpu else None, _MB),
    "file_mb": lambda row: row.subject.size_bytes * _MB,
}


def percentile_for(gates: Sequence[Gate], percentile: int) -> int:
    """The highest percentile that is asked for, so that bench measures long enough for it."""
    named = [p for p in MIN_QUERIES for gate in gates if gate.name == f"p{p}_ms"]
    return max([percentile, *named])


def gate_error(report: BenchReport, gates: Sequence[Gate]) -> VggDeployError | None:
    """The first condition that holds; else the first figure that breaks a rule of its own."""
    rows = [row for row in report.rows if row.status == "measured"]
    pairs = [(row, gate, FIGURES[gate.name](row)) for gate in gates for row in rows]
    for row, gate, value in pairs:
        if value is not None and not _marks(row, gate) and gate.trips(value):
            return LimitNotMet(
                f"{gate.text}: {row.subject.id} at batch {row.batch} has {value:.4g}",
                "choose another backend, precision or batch, or another limit",
            )
    for row, gate, value in pairs:
        if reason := "; ".join(_marks(row, gate)) or ("" if value is not None else "not measured"):
            said = "nothing" if value is None else f"{value:.4g}"
            return MeasurementNotValid(
                f"{gate.name} of {row.subject.id} at batch {row.batch} is not fit to be judged "
                f"({said}): {reason}",
                "remove the reason and measure again: close other programs, verify, use --seconds",
            )
    return None


def _marks(row: Timing, gate: Gate) -> tuple[str, ...]:
    """The rules that a figure breaks; those of the timing are nothing to a size."""
    if gate.name in _UNTIMED:
        return ()
    return (*row.marks, *(calls_mark(row.end_to_end_ns) if gate.name == _OF_CALLS else ()))


def _stats(row: Timing) -> Stats:
    return summarise(row.samples_ns, row.batch)


def _calls(row: Timing) -> float | None:
    return summarise(row.end_to_end_ns, row.batch).p50 if row.end_to_end_ns else None


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale
