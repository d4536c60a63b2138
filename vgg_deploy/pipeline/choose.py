"""Which file in which backend fits: from what verify and bench have stored, nothing is run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from vgg_deploy import stored
from vgg_deploy.artifact import Artifact
from vgg_deploy.bench.figures import images_per_s
from vgg_deploy.bench.stats import MIN_QUERIES, summarise
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import LimitNotMet, RefusedInput, UsageError, counted, unknown_choice
from vgg_deploy.files import word
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.pipeline.whole import problems_of
from vgg_deploy.report.pareto import dominates
from vgg_deploy.report.standing import with_verdicts
from vgg_deploy.results import (
    BENCH_FILE,
    VERIFY_FILE,
    BenchReport,
    Comparison,
    Subject,
    Timing,
    VerifyReport,
)

_Report = TypeVar("_Report", VerifyReport, BenchReport)
_MB = 1e6
DROP = "top1_drop"  # verify's figure, in points


@dataclass(frozen=True, kw_only=True)
class ChooseOptions:
    """What a deployment may cost; ``None`` means any."""

    latency_ms: float | None = None
    batch: int = 1
    percentile: int = 90  # of the latency
    max_top1_drop: float | None = None  # points against torch eager on the same images
    max_mb: float | None = None  # file size in 10⁶ bytes
    unsettled: bool = False  # also take measurements that break a rule

    def __post_init__(self) -> None:
        if self.percentile not in MIN_QUERIES:
            raise unknown_choice("percentile", str(self.percentile), map(str, MIN_QUERIES))
        for name in ("latency_ms", "max_mb", "batch", "max_top1_drop"):
            value = getattr(self, name)
            option = "--" + name.replace("_", "-")
            if value is not None and not math.isfinite(value):
                raise UsageError(f"{option} {value:g} is no limit", "use a finite number")
            if value is not None and not (value > 0 or name == "max_top1_drop"):
                raise UsageError(f"{option} {value:g} is not above 0", "use a positive number")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A pair with what is known of it; ``reason`` says why it is out, empty where it fits."""

    subject: Subject
    latency_ms: float | None
    images_per_s: float | None
    top1: float | None  # 0..1
    top1_drop: float | None  # points
    size_mb: float
    reason: str = ""
    over: float = 0.0  # by how many times the worst limit is missed; 0: none, or not a number

    @property
    def cost(self) -> tuple[float, float, float]:
        """Latency, accuracy lost and size: less is better in each."""
        return self.latency_ms or 0.0, -(self.top1 or 0.0), self.size_mb


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The Pareto set of what fits, fastest first; everything else with the reason."""

    options: ChooseOptions
    best: tuple[Candidate, ...]
    out: tuple[Candidate, ...]

    @property
    def nearest(self) -> Candidate | None:
        """What misses its limits by least, of those that miss them by a number."""
        return min((c for c in self.out if c.over), key=lambda c: c.over, default=None)


def choose(bundle: Bundle, options: ChooseOptions, watch: Watcher | None = None) -> Choice:
    """Judge every pair that was verified or timed; files that would fit are hashed.

    Raises ``RefusedInput`` when verify or bench have not been run.
    """
    verified = _load(bundle, VerifyReport, VERIFY_FILE, "verify")
    timed = with_verdicts(_load(bundle, BenchReport, BENCH_FILE, "bench"), verified)
    by_subject = {row.subject: row for row in verified.rows}
    subjects = dict.fromkeys([*by_subject, *(row.subject for row in timed.rows)])
    rows = {row.subject: row for row in timed.rows if row.batch == options.batch}
    unusable = (row for row in timed.rows if row.status == "skipped" and not row.batch)
    skipped = {row.subject: row for row in unusable}
    current = {a.sha256: a for a in bundle.artifacts}
    judged = [
        _candidate(s, by_subject.get(s), rows.get(s, skipped.get(s)), options, current)
        for s in subjects
    ]
    known = _whole(judged, bundle, watch or Silent())
    fitting = [c for c in known if not c.reason]
    beaten = {id(c): better for c in fitting if (better := _better(c, fitting))}
    best = sorted((c for c in fitting if id(c) not in beaten), key=lambda c: c.cost)
    out = [c for c in known if c.reason]
    dominated = [_dominated(c, beaten[id(c)]) for c in fitting if id(c) in beaten]
    return Choice(options=options, best=tuple(best), out=(*dominated, *out))


def choice_error(choice: Choice) -> LimitNotMet | None:
    """The error of a choice that nothing fits, with the nearest miss."""
    if choice.best:
        return None
    nearest = choice.nearest
    if nearest:
        return LimitNotMet(
            f"nothing fits; nearest: {nearest.subject.id}, {nearest.reason}",
            "relax a limit, or export another precision",
        )
    said = f"first: {choice.out[0].subject.id}, {choice.out[0].reason}" if choice.out else ""
    return LimitNotMet(
        f"nothing fits; {said or 'nothing was measured'}",
        "measure where nothing else runs: vgg-deploy verify BUNDLE, then "
        f"vgg-deploy bench BUNDLE --batch {choice.options.batch}",
    )


def _whole(judged: Sequence[Candidate], bundle: Bundle, watch: Watcher) -> list[Candidate]:
    """What would fit is out where its file is not the one that the manifest describes."""
    problems = problems_of(bundle, (c.subject.sha256 for c in judged if not c.reason), watch)
    return [c if c.reason else replace(c, reason=problems[c.subject.sha256]) for c in judged]


def _candidate(
    subject: Subject,
    verified: Comparison | None,
    timed: Timing | None,
    options: ChooseOptions,
    current: Mapping[str, Artifact],
) -> Candidate:
    stats = summarise(timed.samples_ns, timed.batch) if timed and timed.samples_ns else None
    latency = getattr(stats, f"p{options.percentile}") if stats else None
    drop = verified.figure(DROP) if verified else None
    make = partial(
        Candidate,
        subject=subject,
        latency_ms=None if latency is None else 1e3 * latency,
        images_per_s=images_per_s(timed) if timed and stats else None,
        top1=verified.accuracy.top1 if verified and verified.accuracy else None,
        top1_drop=drop.value if drop else None,
        size_mb=subject.size_bytes / _MB,
    )
    if reason := _unproven(subject, verified, current) or _unmeasured(timed, latency, options):
        return make(reason=reason)
    reason, over = _misses(make(), options)
    return make(reason=reason, over=over)


def _unproven(
    subject: Subject, verified: Comparison | None, current: Mapping[str, Artifact]
) -> str:
    if subject.sha256 and subject.sha256 not in current:
        return "the file was made again since; verify and bench it"
    if verified is None:
        return "not verified"
    if verified.verdict == "equivalent":
        return ""
    return f"{verified.verdict}: {verified.reason}"


def _unmeasured(timed: Timing | None, latency: float | None, options: ChooseOptions) -> str:
    if timed is None:
        return f"not timed at batch {options.batch}"
    if timed.status != "measured":
        return f"{timed.status}: {timed.reason}"
    if latency is None:
        queries = len(timed.samples_ns)
        return f"{counted(queries, 'query', 'queries')} cannot tell p{options.percentile}"
    if timed.marks and not options.unsettled:
        return f"not settled: {'; '.join(timed.marks)}"
    return ""


def _misses(candidate: Candidate, options: ChooseOptions) -> tuple[str, float]:
    """What is above its limit, and by how many times the worst is."""
    limits = (
        (f"p{options.percentile}", candidate.latency_ms, options.latency_ms, "ms"),
        ("top-1 drop", candidate.top1_drop, options.max_top1_drop, "points"),
        ("size", candidate.size_mb, options.max_mb, "MB"),
    )
    reasons, worst = [], 0.0
    for name, value, limit, unit in limits:
        if limit is None:
            continue
        if value is None:
            return f"{name} is not known", 0.0
        if value > limit:
            reasons.append(f"{name} {value:.3g} {unit}, above {limit:g}")
            worst = max(worst, value / limit if limit > 0 else 1 + (value - limit))
    return "; ".join(reasons), worst


def _better(one: Candidate, others: Iterable[Candidate]) -> Candidate | None:
    """One that is as good in everything and better in something."""
    return next((o for o in others if dominates(o.cost, one.cost)), None)


def _dominated(one: Candidate, better: Candidate) -> Candidate:
    words = ("slower", "less accurate", "larger")
    worse = [w for w, a, b in zip(words, better.cost, one.cost, strict=True) if a < b]
    reason = f"fits, but is {' and '.join(worse)} than {better.subject.id}, and better in nothing"
    return replace(one, reason=reason)


def _load(bundle: Bundle, kind: type[_Report], name: str, verb: str) -> _Report:
    path: Path = bundle.root / name
    if not path.exists():
        raise RefusedInput(
            f"{bundle.root} has no results of {verb}", f"run vgg-deploy {verb} {word(bundle.root)}"
        )
    return stored.load(kind, path)
