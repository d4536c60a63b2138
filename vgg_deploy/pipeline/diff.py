"""Compare two stored runs: timings of bench, and verdicts of verify."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
from vgg_deploy.errors import (
    LimitNotMet,
    MeasurementNotValid,
    NotEquivalent,
    RefusedInput,
    ResourceLimit,
    VggDeployError,
)
from vgg_deploy.files import word
from vgg_deploy.gates import Gate
from vgg_deploy.report.standing import with_verdicts, without_verdicts
from vgg_deploy.report.verdict_changes import (
    SHARE_RATIO,
    VerdictChange,
    changed_judging,
    verdict_changes,
)
from vgg_deploy.results import BENCH_FILE, VERIFY_FILE, BenchReport, VerifyReport

# What a condition can ask for: the new run's p50 over the old one's, its interval's ends, and
# other figures' plain ratios; last what verify says.
DIFF_FIGURES = ("ratio", "ratio_low", "ratio_high", *PLAIN, SHARE_RATIO)

_BENCH_IT = "bench it in the new run, too, or take it out of the old one"
_VERIFY_IT = "verify it in the new run, too, or take it out of the old one"
_AGAIN = "measure again without what disturbed it"
_HAVE_IT = "bench both again so that they have it; a p99 needs --percentile 99"
_FROM_NOTHING = "judge it by the table, or ask verify --fail-if for the figure itself"
_REPAIR = "repair what broke there and bench it again, or take it out of the old run"


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Two runs side by side."""

    old: str  # when it was measured
    new: str
    changed: Mapping[str, tuple[str, str]]  # by what differs: old and new
    rows: tuple[Difference, ...]
    verdicts: tuple[VerdictChange, ...] = ()
    not_compared: Mapping[str, str] = field(default_factory=dict)  # bench or verify, and why


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What is stored of one run; at least one of the two."""

    path: Path
    bench: BenchReport | None = None
    verify: VerifyReport | None = None

    @property
    def made_at(self) -> str:
        report = self.bench or self.verify
        return report.made_at if report else ""


def diff_runs(old: Path, new: Path) -> Diff:
    """Compare two files, or the stored runs of two bundles: what both hold.

    Raises ``RefusedInput`` for timings of other hardware and for files that hold no run of bench
    or verify, ``DigestMismatch`` for edited ones, ``MeasurementNotValid`` when no cell can be
    compared.
    """
    first, second = _load(old), _load(new)
    changed: dict[str, tuple[str, str]] = {}
    verdicts: tuple[VerdictChange, ...] = ()
    rows: tuple[Difference, ...] = ()
    if first.verify and second.verify:
        verdicts = verdict_changes(first.verify, second.verify)
        changed |= changed_environment(first.verify.environment, second.verify.environment)
        changed |= changed_judging(first.verify, second.verify)
    if first.bench and second.bench:
        rows = _timed(old, first.bench, new, second.bench)
        changed |= changed_environment(first.bench.environment, second.bench.environment)
        changed |= changed_running(first.bench, second.bench)
    elif not (first.verify and second.verify):
        raise RefusedInput(
            f"of {old} and {new} one holds timings and the other verdicts: nothing to compare",
            "name two bundles, two results/bench.json or two results/verify.json",
        )
    if not any(row.ratio for row in rows) and not any(row.comparable for row in verdicts):
        reasons = [*(row.reason for row in rows), *(row.reason for row in verdicts)]
        why = next(filter(None, reasons), "nothing was measured")
        raise MeasurementNotValid(
            f"{old} and {new} have no cell in common that can be compared: {why}",
            "measure the same backends, batch sizes and precisions in both",
        )
    return Diff(
        old=first.made_at,
        new=second.made_at,
        changed=changed,
        rows=rows,
        verdicts=verdicts,
        not_compared=_one_sided(first, second),
    )


def _timed(old: Path, first: BenchReport, new: Path, second: BenchReport) -> tuple[Difference, ...]:
    if reason := other_hardware(first, second):
        raise RefusedInput(
            f"{old} and {new} cannot be compared: {reason}",
            "measure both on one machine, with the same number of cores; verdicts alone: name both "
            f"{VERIFY_FILE}",
        )
    return differences(first, second)


def told(diff: Diff) -> dict[str, object]:
    """Both runs as JSON, with what is said of each row."""
    rows = [{**vars(row), "says": row.word} for row in diff.rows]
    verdicts = [
        {**vars(row), "share_ratio": row.share_ratio, "says": row.word} for row in diff.verdicts
    ]
    return {**vars(diff), "rows": rows, "verdicts": verdicts}


def _one_sided(first: _Run, second: _Run) -> dict[str, str]:
    """Results that one run alone has."""
    kinds = (("verify", first.verify, second.verify), ("bench", first.bench, second.bench))
    return {
        kind: f"{second.path if one else first.path} holds no results of {kind}"
        for kind, one, other in kinds
        if bool(one) != bool(other)
    }


def diff_error(diff: Diff, gates: Sequence[Gate]) -> VggDeployError | None:
    """A verdict that became worse; else the first condition that holds, or cannot be told.

    A cell that the old run did not measure is no change: conditions pass over it.
    """
    if error := _worse(diff.verdicts):
        return error
    asked = [(gate, one) for gate in gates for one in _asked(diff, gate)]
    for gate, one in asked:
        if one.value is not None and not one.reason and gate.trips(one.value):
            return LimitNotMet(
                f"{gate.text}: {one.where} has {one.value:.4g}",
                "see what changed in the environment and in the files",
            )
    for gate, one in asked:
        if one.was_there and (one.reason or one.value is None):
            reason = one.reason or f"not both runs have a {gate.name}"
            return MeasurementNotValid(f"{one.where} cannot be judged: {reason}", one.remedy)
    for gate in gates:
        if all(gate != other or one.value is None for other, one in asked):
            kind = "verify" if gate.name == SHARE_RATIO else "bench"
            return MeasurementNotValid(
                f"{gate.text} cannot be told: no cell has a {gate.name}, for not both runs hold "
                f"results of {kind} for it",
                f"{kind} the same in both runs, and name the bundles",
            )
    return None


def _worse(verdicts: Sequence[VerdictChange]) -> VggDeployError | None:
    worse = [row for row in verdicts if row.word == "worse"]
    if not worse:
        return None
    names = ", ".join(row.subject.id for row in worse)
    cause = f"{len(worse)} of {len(verdicts)} verdicts became worse: {names}"
    if all(row.ran_out for row in worse):
        return ResourceLimit(cause, f"free disk space or memory; first: {worse[0].reason}")
    return NotEquivalent(cause, f"see what changed; first: {worse[0].now}, {worse[0].reason}")


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What a condition finds in one cell; with a ``reason`` it cannot be asked of it."""

    where: str
    value: float | None
    reason: str
    was_there: bool  # in the old run
    remedy: str


def _asked(diff: Diff, gate: Gate) -> Iterator[_Asked]:
    if gate.name == SHARE_RATIO:
        for change in diff.verdicts:
            yield _Asked(
                where=change.subject.id,
                value=change.share_ratio,
                reason="the old share is 0" if _from_nothing(change) else "",
                was_there=change.share_before is not None,
                remedy=_FROM_NOTHING if _from_nothing(change) else _VERIFY_IT,
            )
        return
    for row in diff.rows:
        yield _Asked(
            where=f"{row.subject.id} at batch {row.batch}",
            value=_figure(row, gate.name),
            reason=_unfit(row, gate),
            was_there=row.before == "measured",
            remedy=_remedy(row) if row.reason else _HAVE_IT,
        )


def _from_nothing(change: VerdictChange) -> bool:
    """Whether a share grew from 0, so that no ratio tells by how much."""
    return change.share_before == 0 and bool(change.share_now)


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


def _load(path: Path) -> _Run:
    """A bundle's results, timings with what verify says now; a file alone says it of its kind."""
    if path.is_dir():
        timed, judged = path / BENCH_FILE, path / VERIFY_FILE
        if not timed.exists() and not judged.exists():
            raise RefusedInput(
                f"{path} has no results of bench or verify",
                f"run vgg-deploy verify {word(path)} and vgg-deploy bench {word(path)}",
            )
        verify = stored.load(VerifyReport, judged) if judged.exists() else None
        bench = stored.load(BenchReport, timed) if timed.exists() else None
        shown = with_verdicts(bench, verify) if bench else None
        return _Run(path=path, bench=shown, verify=verify)
    report = stored.load_either(path)
    if isinstance(report, VerifyReport):
        return _Run(path=path, verify=report)
    if report.contests and not report.rows:
        raise RefusedInput(
            f"{path} holds comparisons in turns and no timings",
            f"name a bundle that was benched, or its {BENCH_FILE}",
        )
    return _Run(path=path, bench=without_verdicts(report))
