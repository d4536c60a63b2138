"""All that is stored about a bundle, read once, and the verdict it adds up to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from vgg_deploy import stored
from vgg_deploy.bench.diff import other_hardware
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import Environment
from vgg_deploy.errors import counted, os_errors
from vgg_deploy.files import sha256_of
from vgg_deploy.report.asked import is_partial, qualifying
from vgg_deploy.report.judged import digests, is_stale
from vgg_deploy.report.learning import with_kept
from vgg_deploy.report.quantities import listed
from vgg_deploy.report.standing import difference, with_verdicts
from vgg_deploy.report.table import RowStatus
from vgg_deploy.results import (
    BENCH_FILE,
    COMPARE_FILE,
    VERIFY_FILE,
    BenchReport,
    Comparison,
    Contest,
    Subject,
    VerifyReport,
)

METRICS_FILE = "training/metrics.jsonl"  # relative to the bundle
_BEST_FILE = "training/best.safetensors"  # the checkpoint is a copy of it
_UNFINISHED = "training/checkpoints/step-*"  # of a run that was not finished
Metrics = tuple[Mapping[str, object], ...]
_Report = TypeVar("_Report", VerifyReport, BenchReport)


@dataclass(frozen=True, kw_only=True)
class Findings:
    """A bundle with its stored results; what does not exist yet is ``None`` or empty."""

    bundle: Bundle
    verify: VerifyReport | None
    bench: BenchReport | None  # its marks hold what verify says now
    metrics: Metrics
    problems: Mapping[str, str]  # by path: what is wrong with a file
    current: Mapping[str, str]  # by path: SHA-256 in the manifest
    compared: BenchReport | None = None  # the last comparison in turns
    withheld: str = ""  # why there are no metrics, where a training of other weights lies there

    @property
    def timed(self) -> BenchReport | None:
        """Bench without the timings and profiles of files that were replaced since."""
        if self.bench is None:
            return None
        rows = tuple(r for r in self.bench.rows if not is_stale(r.subject, self.current))
        layers = tuple(p for p in self.bench.layers if not is_stale(p.subject, self.current))
        return replace(self.bench, rows=rows, layers=layers)

    @property
    def contests(self) -> tuple[Contest, ...]:
        """Comparisons in turns whose files the bundle still holds; marked if made elsewhere."""
        found = self.compared.contests if self.compared else ()
        kept = (c for c in found if not any(is_stale(s, self.current) for s in c.subjects))
        return tuple(replace(c, marks=(*self._elsewhere(c), *c.marks)) for c in kept)

    def _elsewhere(self, contest: Contest) -> tuple[str, ...]:
        """The mark of a comparison that was not made where the timings were."""
        if self.compared is None or self.bench is None:
            return ()
        there, here = self.compared.environment, self.bench.environment
        said = other_hardware(self.compared, self.bench) or next(
            filter(None, (difference(s, there, here) for s in contest.subjects)), ""
        )
        return (f"not where the timings were made: {said}",) if said else ()

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Comparisons of files that the bundle still holds."""
        rows = self.verify.rows if self.verify else ()
        return tuple(row for row in rows if not is_stale(row.subject, self.current))

    @property
    def proven(self) -> tuple[Comparison, ...]:
        """Current comparisons that found a file equivalent which still is what it was."""
        good = (row for row in self.comparisons if row.verdict == "equivalent")
        return tuple(row for row in good if row.subject.artifact not in self.problems)

    @property
    def equivalent(self) -> frozenset[Subject]:
        """What is proven equivalent."""
        return frozenset(row.subject for row in self.proven)

    @property
    def environments(self) -> tuple[tuple[str, Environment], ...]:
        """Where the results were measured: those that agree share an entry."""
        reports = {"verify": self.verify, "bench": self.bench}
        if self.contests:
            reports["bench --compare"] = self.compared
        found: list[tuple[list[str], Environment]] = []
        for name, report in reports.items():
            if report is None:
                continue
            same = next((names for names, one in found if one == report.environment), None)
            if same is None:
                found.append(([name], report.environment))
            else:
                same.append(name)
        return tuple((listed(names), environment) for names, environment in found)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The word on top of a report, how many of what stand behind it, and what qualifies it."""

    status: RowStatus
    word: str
    counts: tuple[tuple[RowStatus, str], ...]
    remarks: tuple[str, ...]


def gather(bundle: Bundle, hashed: Callable[[], object] = lambda: None) -> Findings:
    """Read what verify, bench and train left in a bundle, and hash its files.

    ``hashed`` is called after each file.
    Raises ``RefusedInput`` for results that cannot be read or are of a newer schema version,
    ``DigestMismatch`` for edited ones.
    """
    verify = _stored(VerifyReport, bundle.root / VERIFY_FILE)
    bench, compared = (_stored(BenchReport, bundle.root / f) for f in (BENCH_FILE, COMPARE_FILE))
    problems = {}
    for artifact in bundle.artifacts:
        if problem := bundle.problem(artifact):
            problems[str(artifact.path)] = problem
        hashed()
    metrics = read_metrics(bundle.root / METRICS_FILE)
    withheld = _other_training(bundle) if metrics else ""
    return Findings(
        bundle=bundle,
        verify=verify,
        bench=bench and with_verdicts(bench, verify),
        metrics=() if withheld else _marked(metrics, bundle),
        problems=problems,
        current=digests(bundle),
        compared=compared and with_verdicts(compared, verify),
        withheld=withheld,
    )


def _marked(metrics: Metrics, bundle: Bundle) -> Metrics:
    checkpoint = bundle.find("checkpoint")
    return with_kept(metrics, checkpoint.made_by.get("best_epoch")) if checkpoint else metrics


def _other_training(bundle: Bundle) -> str:
    """What to say where the training in a bundle's folder is not its checkpoint's.

    A run that is to replace the bundle writes its best weights before its metrics.
    """
    unfinished = any(bundle.root.glob(_UNFINISHED))
    best, checkpoint = bundle.root / _BEST_FILE, bundle.find("checkpoint")
    if checkpoint is None:
        return ""
    if best.is_file():
        with os_errors(f"read {best}"):
            same = best.stat().st_size == checkpoint.size_bytes
            if same and sha256_of(best) == checkpoint.sha256:
                return ""
    elif not unfinished:  # somebody made room
        return ""
    what = (
        "A training that would replace this checkpoint is unfinished"
        if unfinished
        else "What lies in training/ is of other weights than this checkpoint"
    )
    return f"{what}; its metrics are not shown."


def read_metrics(path: Path) -> Metrics:
    """Rows of ``metrics.jsonl``; none without the file, and lines that are no object are left."""
    if not path.is_file():
        return ()
    with os_errors(f"read {path}"):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # the last line of a run that was killed, or damage
            continue
        if isinstance(row, dict):
            rows.append(row)
    return tuple(rows)


def summarise(findings: Findings) -> Summary:
    """The verdict: stale results do not count, and a file nobody verified is named."""
    verdicts = [row.verdict for row in findings.comparisons]
    stale = len(findings.verify.rows if findings.verify else ()) - len(verdicts)
    covered = {s.artifact for s in findings.equivalent}
    open_files = [path for path in findings.current if path not in covered]
    partial = findings.verify is not None and is_partial(findings.verify)
    all_of_it = not open_files and not partial
    status, word = _word(verdicts, whole=not findings.problems, covered=all_of_it)
    kinds: tuple[tuple[RowStatus, str, int], ...] = (
        ("ok", "equivalent", verdicts.count("equivalent")),
        ("bad", "different", verdicts.count("different")),
        ("failed", "failed", verdicts.count("failed")),
        ("skipped", "skipped", verdicts.count("skipped")),
        ("warn", "stale", stale),
    )
    remarks = [f"{path} {problem}." for path, problem in findings.problems.items()]
    if tripped := _tripped(findings):
        remarks += tripped
        if status in ("ok", "warn") and "equivalent" in verdicts:
            status, word = "warn", "Equivalent, but not within your conditions"
    if findings.verify and findings.proven:
        remarks += qualifying(findings.verify, findings.proven)
    if stale:
        remarks.append(
            f"{counted(stale, 'comparison')} measured on an earlier file, not counted; "
            "verify again."
        )
    whole = [path for path in open_files if path not in findings.problems]
    if covered and whole:
        remarks.append(f"Not proven equivalent: {', '.join(whole)}.")
    return Summary(
        status=status,
        word=word,
        counts=tuple((kind, f"{n:,} {name}") for kind, name, n in kinds if n),
        remarks=tuple(remarks),
    )


def _tripped(findings: Findings) -> list[str]:
    """A sentence per condition of ``verify --fail-if`` that holds for a file that is current."""
    current = {row.subject.id for row in findings.comparisons}
    tripped = findings.verify.tripped if findings.verify else ()
    return [
        f"The condition {one.gate} holds for {one.subject}: "
        + ("not measured." if one.value is None else f"{one.value:.4g}.")
        for one in tripped
        if one.subject in current
    ]


def _word(verdicts: Sequence[str], *, whole: bool, covered: bool) -> tuple[RowStatus, str]:
    if "different" in verdicts:
        return "bad", "Not equivalent"
    if "equivalent" not in verdicts and "failed" not in verdicts:
        return "warn", "Nothing verified"
    if "failed" in verdicts or not whole:
        return "failed", "Not proven equivalent"
    return ("ok", "Equivalent") if covered else ("warn", "Equivalent as far as verified")


def _stored(kind: type[_Report], path: Path) -> _Report | None:
    return stored.load(kind, path) if path.exists() else None
