"""Two stored runs of verify side by side: which verdicts changed, and which errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vgg_deploy.report.judged import closest, tally, used_up
from vgg_deploy.report.quantities import MISSING, percent, significant
from vgg_deploy.report.table import Column, RowStatus, Table, simple_table
from vgg_deploy.results import Comparison, Subject, Verdict, VerifyReport

SHARE_RATIO = "share_ratio"  # what a condition can ask for
State = Verdict | Literal["absent"]
_JUDGED = ("equivalent", "different")
_BAD = ("different", "failed")
_WORDS = (
    "worse",
    "better",
    "same verdict",
    "still not equivalent",
    "new",
    "not judged now",
    "gone",
)
_STATUS: Mapping[str, RowStatus] = {
    "worse": "bad",
    "better": "ok",
    "still not equivalent": "bad",
    "not judged now": "warn",
    "gone": "warn",
}


@dataclass(frozen=True, kw_only=True)
class VerdictChange:
    """One backend on one file in both runs.

    ``share``: how much the figure nearest to its limit takes of it, 1 at the limit; None where
    nothing was judged or where that is not finite.
    """

    subject: Subject
    before: State  # in the old run
    now: State  # in the new run
    share_before: float | None
    share_now: float | None
    max_abs_before: float | None
    max_abs_now: float | None
    reason: str = ""  # of the new run, where it is not equivalent
    same_file: bool = True
    ran_out: bool = False  # it failed now because disk or memory did

    @property
    def word(self) -> str:
        """What may be said of the change."""
        if self.before == "equivalent" and self.now in _BAD:
            return "worse"
        if self.before in _BAD and self.now in _BAD:
            return "still not equivalent"
        if self.now == "absent":
            return "gone"
        if self.now == "skipped":
            return "not judged now"
        if self.before in ("absent", "skipped"):
            return "new"
        return "same verdict" if self.before == self.now else "better"

    @property
    def comparable(self) -> bool:
        """Whether both runs tried it."""
        return not {self.before, self.now} & {"absent", "skipped"}

    @property
    def share_ratio(self) -> float | None:
        """The new share over the old one; None where either is not known or the old one is 0."""
        before, now = self.share_before, self.share_now
        if before is None or now is None:
            return None
        if before == now:
            return 1.0
        return now / before if before else None


def verdict_changes(old: VerifyReport, new: VerifyReport) -> tuple[VerdictChange, ...]:
    """Every cell that either run judged or that broke, in the order of the new run."""
    before, after = ({row.subject.id: row for row in report.rows} for report in (old, new))
    pairs = [(before.get(key), after.get(key)) for key in {**after, **before}]
    return tuple(
        _change(*pair) for pair in pairs if any(r and r.verdict != "skipped" for r in pair)
    )


def changed_judging(old: VerifyReport, new: VerifyReport) -> dict[str, tuple[str, str]]:
    """What differs in how the two runs judged, without which errors differ too: (old, new)."""
    a, b = _judging(old), _judging(new)
    names = {**a, **b}
    pairs = {f"verify: {name}": (a.get(name, "–"), b.get(name, "–")) for name in names}
    return {name: both for name, both in pairs.items() if both[0] != both[1]}


def verdicts_table(changes: Sequence[VerdictChange]) -> Table:
    """Verdict, share of the limit and largest difference of both runs, per cell."""
    cells = [
        (
            row.subject.backend,
            row.subject.artifact,
            row.before,
            row.now,
            percent(row.share_before),
            percent(row.share_now),
            _number(row.max_abs_before),
            _number(row.max_abs_now),
            row.word + ("" if row.same_file else "; the file is another one"),
            row.reason,
        )
        for row in changes
    ]
    columns = [
        Column(name="Backend"),
        Column(name="Artifact"),
        Column(name="Old verdict"),
        Column(name="New verdict"),
        Column(name="Old share", align="right"),
        Column(name="New share", align="right"),
        Column(name="Old max abs", align="right", extra=True),
        Column(name="New max abs", align="right", extra=True),
        Column(name="Says"),
        Column(name="Reason", align="prose"),
    ]
    words = [row.word for row in changes]
    note = f"{tally(words, _WORDS)}. Share: what the figure nearest to its limit takes of it; max "
    note += "abs: the largest difference of a logit."
    statuses = [_STATUS.get(word, "plain") for word in words]
    table = simple_table("Verdicts of both runs", columns, cells, statuses=statuses, note=note)
    return table.without_empty_columns()


def _change(old: Comparison | None, new: Comparison | None) -> VerdictChange:
    subjects = [row.subject for row in (new, old) if row]
    return VerdictChange(
        subject=subjects[0],
        before=old.verdict if old else "absent",
        now=new.verdict if new else "absent",
        share_before=_share(old),
        share_now=_share(new),
        max_abs_before=_max_abs(old),
        max_abs_now=_max_abs(new),
        reason=new.reason if new else "",
        same_file=subjects[0].sha256 == subjects[-1].sha256,
        ran_out=bool(new and new.ran_out),
    )


def _share(row: Comparison | None) -> float | None:
    figure = closest(row) if row and row.verdict in _JUDGED else None
    share = used_up(figure) if figure else math.inf
    return share if math.isfinite(share) else None


def _max_abs(row: Comparison | None) -> float | None:
    figure = row.figure("max_abs") if row else None
    return figure.value if figure else None


def _judging(report: VerifyReport) -> dict[str, str]:
    limits = {f"limits of {p}": _limits(values) for p, values in report.tolerances.items()}
    batches = ", ".join(map(str, report.batches))
    return {"inputs": report.image_source, "batches": batches, **report.options, **limits}


def _limits(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def _number(value: float | None) -> str:
    return MISSING if value is None else significant(value)
