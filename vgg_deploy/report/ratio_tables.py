"""Tables of ratios: a comparison in turns, and two stored runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from vgg_deploy.bench.diff import PLAIN, Difference
from vgg_deploy.bench.paired import LEVEL, Ratio, ratios
from vgg_deploy.errors import counted
from vgg_deploy.report.quantities import MISSING, duration, fixed_all, significant
from vgg_deploy.report.table import Column, Row, RowStatus, Table, simple_table
from vgg_deploy.results import Contest, Subject

_INTERVAL = f"{100 * LEVEL:.0f} % interval"
_LEAST_S = 3.0  # what bench takes for a single timing
_STATUS: Mapping[str, RowStatus] = {
    "faster": "ok",
    "slower": "bad",
    "not told": "warn",
    "failed": "failed",
}


def contest_table(contest: Contest) -> Table:
    """Every contender's median latency, and its ratio to the first one's."""
    milliseconds = [
        median(block.medians_ns[i] for block in contest.blocks) / 1e6
        for i in range(len(contest.subjects))
    ]
    found: list[Ratio | None] = [None, *ratios(contest)]
    rows = [
        Row(
            cells=(
                subject.backend,
                subject.artifact,
                ms,
                _times(ratio),
                _interval(ratio),
                _said(ratio) + _across(contest, subject),
            ),
            status="warn"
            if contest.marks
            else _STATUS.get(ratio.word, "plain")
            if ratio
            else "plain",
        )
        for subject, ms, ratio in zip(contest.subjects, fixed_all(milliseconds), found, strict=True)
    ]
    others = len(contest.subjects) - 1
    joint = f", all {others} intervals together" if others > 1 else ""
    note = f"{counted(len(contest.blocks), 'block')} in random order{joint}. {_disturbed(contest)}"
    if contest.seconds < _LEAST_S:
        note += f" Short: {duration(contest.seconds)} of turns in all."
    columns = (
        Column(name="Backend"),
        Column(name="Artifact"),
        Column(name="p50", unit="ms", align="right"),
        Column(name="To the first", align="right"),
        Column(name=_INTERVAL, align="right"),
        Column(name="Says", align="prose"),
    )
    return Table(
        title=f"Compared in turns at batch {contest.batch}",
        columns=columns,
        rows=tuple(rows),
        note=note,
    )


def _across(contest: Contest, subject: Subject) -> str:
    """The precisions of a pair that differs in them: what is faster may be less exact."""
    first = contest.subjects[0]
    if subject.precision == first.precision:
        return ""
    return f"; {subject.precision} against {first.precision}"


def _disturbed(contest: Contest) -> str:
    """What is known of others that ran meanwhile."""
    if contest.marks:
        return "; ".join(contest.marks) + "."
    if contest.others_cores is None:
        return "Whether other programs ran meanwhile could not be told."
    if contest.gpu is None and any(s.device == "cuda" for s in contest.subjects):
        return "Nothing disturbed the processor; the GPU was not watched."
    return "Nothing disturbed it."


def diff_table(rows: Sequence[Difference]) -> Table:
    """New over old per cell; a cell that cannot be told says why."""
    cells = [
        (
            row.subject.backend,
            row.subject.artifact,
            str(row.batch),
            _times(row.ratio),
            _interval(row.ratio),
            row.word + ("" if row.same_file else "; the file is another one"),
            row.reason,
        )
        for row in rows
    ]
    columns = [
        Column(name="Backend"),
        Column(name="Artifact"),
        Column(name="Batch", align="right"),
        Column(name="New ÷ old", align="right"),
        Column(name=_INTERVAL, align="right"),
        Column(name="Says"),
        Column(name="Reason", align="prose"),
    ]
    words = [row.word for row in rows]
    counted = [f"{words.count(w)} {w}" for w in dict.fromkeys(words)]
    note = f"{' · '.join(counted)}. Two runs at different times differ by more than their samples "
    note += "show; the intervals hold a share for that."
    told = sum(row.ratio is not None for row in rows)
    note += f" All {told} intervals hold together." if told > 1 else ""
    statuses = [_STATUS.get(word, "plain") for word in words]
    table = simple_table("p50 of the new run over the old", columns, cells, statuses=statuses,
                         note=note)  # fmt: skip
    return table.without_empty_columns()


def plain_table(rows: Sequence[Difference]) -> Table:
    """New over old of figures that have no interval, for the cells that both runs measured."""
    told = [row for row in rows if row.plain]
    cells = [
        (
            row.subject.backend,
            row.subject.artifact,
            str(row.batch),
            *(f"{row.plain[name]:.3f}×" if name in row.plain else MISSING for name in PLAIN),
        )
        for row in told
    ]
    names = (name.removesuffix("_ratio").replace("_", " ") for name in PLAIN)
    columns = [
        Column(name="Backend"),
        Column(name="Artifact"),
        *(Column(name=name, align="right") for name in ("Batch", *names)),
    ]
    note = "Each is one measurement over another, without an interval."
    table = simple_table("Other figures, new over old", columns, cells, note=note)
    return table.without_empty_columns()


def changes_table(changed: Mapping[str, tuple[str, str]]) -> Table:
    """What differs between two environments."""
    rows = [(name, old, new) for name, (old, new) in changed.items()]
    return simple_table("What changed", ["What", "Old", "New"], rows)


def _times(ratio: Ratio | None) -> str:
    return f"{ratio.ratio:.3f}×" if ratio else MISSING


def _interval(ratio: Ratio | None) -> str:
    return f"{ratio.low:.3f} to {ratio.high:.3f}" if ratio else MISSING


def _said(ratio: Ratio | None) -> str:
    if ratio is None:
        return "what the others are compared with"
    if ratio.word == "no difference shown":
        widest = max(ratio.high - 1, 1 - ratio.low)
        return f"no difference shown; one above {significant(100 * widest, 2)} % is ruled out"
    return f"{ratio.word} by {significant(100 * abs(ratio.ratio - 1), 2)} %"
