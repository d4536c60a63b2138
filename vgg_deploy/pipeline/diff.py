"""Compare two stored runs of bench."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy import stored
from vgg_deploy.bench.diff import (
    PLAIN,
    UNTIMED,
    Difference,
    changed_environment,
    changed_running,
    differences,
    other_hardware,
)
from vgg_deploy.errors import LimitNotMet, MeasurementNotValid, RefusedInput, VggDeployError
from vgg_deploy.files import word
from vgg_deploy.gates import Gate
from vgg_deploy.pipeline.verified import as_shown
from vgg_deploy.report.standing import without_verdicts
from vgg_deploy.results import BENCH_FILE, BenchReport

# What a condition can ask for: the new run's p50 over the old one's, its interval's ends, and
# other figures' plain ratios.
DIFF_FIGURES = ("ratio", "ratio_low", "ratio_high", *PLAIN)

_BENCH_IT = "bench it in the new run, too, or take it out of the old one"
_AGAIN = "measure again without what disturbed it"
_HAVE_IT = "bench both again so that they have it; a p99 needs --percentile 99"
_REPAIR = "repair what broke there and bench it again, or take it out of the old run"


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Two runs side by side."""

    old: str  # when it was measured
    new: str
    changed: Mapping[str, tuple[str, str]]  # by what differs: old and new
    rows: tuple[Difference, ...]


def diff_runs(old: Path, new: Path) -> Diff:
    """Compare two files, or the stored runs of two bundles.

    Raises ``RefusedInput`` for runs of other hardware and for files that hold no run of bench,
    ``DigestMismatch`` for edited ones, ``MeasurementNotValid`` when no cell can be compared.
    """
    first, second = _load(old), _load(new)
    if reason := other_hardware(first, second):
        raise RefusedInput(
            f"{old} and {new} cannot be compared: {reason}",
            "measure both on one machine, with the same number of cores",
        )
    rows = differences(first, second)
    if not any(row.ratio for row in rows):
        why = rows[0].reason if rows else "nothing was measured"
        raise MeasurementNotValid(
            f"{old} and {new} have no cell in common that can be compared: {why}",
            "measure the same backends, batch sizes and precisions in both",
        )
    return Diff(
        old=first.made_at,
        new=second.made_at,
        changed={**changed_environment(first, second), **changed_running(first, second)},
        rows=rows,
    )


def diff_error(diff: Diff, gates: Sequence[Gate]) -> VggDeployError | None:
    """The first condition that holds; else the first cell that could not be judged by one.

    A cell that the old run did not measure is no change: conditions pass over it.
    """
    for gate in gates:
        for row in diff.rows:
            value = _figure(row, gate.name)
            if value is not None and not _unfit(row, gate) and gate.trips(value):
                return LimitNotMet(
                    f"{gate.text}: {row.subject.id} at batch {row.batch} has {value:.4g}",
                    "see what changed in the environment and in the files",
                )
    for gate in gates:
        for row in diff.rows:
            known = _figure(row, gate.name) is not None
            reason = _unfit(row, gate) or ("" if known else f"not both runs have a {gate.name}")
            if reason and row.before == "measured":
                return MeasurementNotValid(
                    f"{row.subject.id} at batch {row.batch} cannot be judged: {reason}",
                    _remedy(row) if row.reason else _HAVE_IT,
                )
    return None


def _unfit(row: Difference, gate: Gate) -> str:
    """Why a condition cannot be asked of a cell; a size that both runs have always can."""
    return "" if gate.name in UNTIMED and gate.name in row.plain else row.reason


def _remedy(row: Difference) -> str:
    if row.now == "failed":
        return _REPAIR
    return _AGAIN if row.now == "measured" else _BENCH_IT


def _figure(row: Difference, name: str) -> float | None:
    if name in PLAIN:
        return row.plain.get(name)
    if row.ratio is None:
        return None
    return {
        "ratio": row.ratio.ratio,
        "ratio_low": row.ratio.low,
        "ratio_high": row.ratio.high,
    }[name]


def _load(path: Path) -> BenchReport:
    """A bundle's timings with what its verify says now; a file alone says nothing of verdicts."""
    if path.is_dir():
        if not (path / BENCH_FILE).exists():
            raise RefusedInput(
                f"{path} has no results of bench", f"run vgg-deploy bench {word(path)}"
            )
        return as_shown(path, stored.load(BenchReport, path / BENCH_FILE))
    report = stored.load(BenchReport, path)
    if report.contests and not report.rows:
        raise RefusedInput(
            f"{path} holds comparisons in turns and no timings",
            f"name a bundle that was benched, or its {BENCH_FILE}",
        )
    return without_verdicts(report)
