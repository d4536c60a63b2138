"""Two stored runs side by side: which cells became faster or slower, and which cannot be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vgg_deploy.bench.figures import FIGURES
from vgg_deploy.bench.like import changed_modes, traits_of, unlike
from vgg_deploy.bench.paired import Ratio, unpaired
from vgg_deploy.environment import Environment
from vgg_deploy.results import BenchReport, Clock, Status, Subject, Timing

# Relative standard deviation of a cell's median from one run to the next. On a host left alone it
# was 1.4 to 3.1 % in four cells (docs/results/noise.json); the GPU's figure is not calibrated.
RUN_TO_RUN: Mapping[Clock, float] = {"host": 0.03, "cuda-events": 0.01}

# Plain ratios, new over old: by their names the figures of bench, measured once or of the tail.
PLAIN: Mapping[str, str] = {
    "p99_ratio": "p99_ms",
    "load_ratio": "load_ms",
    "first_ratio": "first_ms",
    "peak_memory_ratio": "peak_memory_mb",
    "file_ratio": "file_mb",
}
UNTIMED = ("peak_memory_ratio", "file_ratio")  # the rules of a timing say nothing about them
NEW_ONLY = "measured in the new run only"
OLD_ONLY = "measured in the old run only"
State = Status | Literal["absent"]
_Key = tuple[str, int]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One cell at one batch size in both runs; without a ratio ``reason`` says why."""

    subject: Subject
    batch: int
    ratio: Ratio | None  # new over old
    reason: str = ""
    same_file: bool = True
    before: State = "measured"  # in the old run
    now: State = "measured"  # in the new run
    plain: Mapping[str, float] = field(default_factory=dict)  # of ``PLAIN``, those both runs have

    @property
    def word(self) -> str:
        """What may be said of the change."""
        if self.now == "failed":
            return "failed"
        return self.ratio.word if self.ratio and not self.reason else "not told"


def changed_environment(a: Environment, b: Environment) -> dict[str, tuple[str, str]]:
    """What differs between two machines, library versions included: (old, new) by name."""
    pairs: dict[str, tuple[object, object]] = {
        name: (getattr(a, name), getattr(b, name))
        for name in ("cpu", "cores", "memory_bytes", "gpu", "driver", "system", "python")
    }
    for name in sorted({*a.versions, *b.versions}):
        pairs[name] = (a.versions.get(name, "absent"), b.versions.get(name, "absent"))
    return {name: (str(x), str(y)) for name, (x, y) in pairs.items() if x != y}


def changed_running(old: BenchReport, new: BenchReport) -> dict[str, tuple[str, str]]:
    """Modes that differ where both runs measured a cell: (old, new) by mode and cell."""
    before, after = _cells(old), _cells(new)
    return {
        f"{mode} of {new_row.subject.id} at batch {new_row.batch}": words
        for key in after
        if (both := _measured(before.get(key), after[key]))
        for old_row, new_row in [both]
        for mode, words in changed_modes(traits_of(old_row), traits_of(new_row)).items()
    }


def other_hardware(old: BenchReport, new: BenchReport) -> str:
    """The first difference in hardware, which makes every ratio meaningless; empty for none."""
    changed = changed_environment(old.environment, new.environment)
    for name in ("cpu", "cores", "gpu"):
        if name in changed:
            return f"{name} {changed[name][0]} and {changed[name][1]}"
    return ""


def differences(old: BenchReport, new: BenchReport) -> tuple[Difference, ...]:
    """Every cell that either run measured or that broke, in the order of the new run.

    All intervals hold together.
    """
    before, after = _cells(old), _cells(new)
    keys = [key for key in {**after, **before} if _tells(before.get(key), after.get(key))]
    pairs = [(_row(before, key), _row(after, key)) for key in keys]
    comparable = sum(not _unlike(*both) for pair in pairs if (both := _measured(*pair)))
    return tuple(
        _difference(*both, comparable) if (both := _measured(*pair)) else _one_sided(key[1], *pair)
        for key, pair in zip(keys, pairs, strict=True)
    )


def _cells(report: BenchReport) -> dict[_Key, Timing]:
    """Rows by cell and batch; of several the one that was measured."""
    found = {_key(row): row for row in report.rows}
    return found | {_key(row): row for row in report.rows if row.status == "measured"}


def _key(row: Timing) -> _Key:
    return row.subject.id, row.batch


def _tells(*rows: Timing | None) -> bool:
    """Whether there is anything to tell: a cell that was skipped wherever it was is left out."""
    return any(row and row.status != "skipped" for row in rows)


def _row(rows: Mapping[_Key, Timing], key: _Key) -> Timing | None:
    """A cell's row; one that was skipped as a whole has one row, of batch 0."""
    return rows.get(key) or rows.get((key[0], 0))


def _unlike(old: Timing, new: Timing) -> str:
    return unlike(traits_of(old), traits_of(new))


def _measured(old: Timing | None, new: Timing | None) -> tuple[Timing, Timing] | None:
    """The pair, where both runs measured the cell."""
    return (old, new) if old and new and old.status == new.status == "measured" else None


def _one_sided(batch: int, old: Timing | None, new: Timing | None) -> Difference:
    """A cell that at least one run did not measure."""
    rows = [(which, row) for which, row in (("old", old), ("new", new)) if row]
    said = [
        f"{row.status} in the {which} run: {row.reason}"
        for which, row in rows
        if row.status != "measured"
    ]
    return Difference(
        subject=rows[-1][1].subject,
        batch=batch,
        ratio=None,
        reason="; ".join(said) or (OLD_ONLY if old else NEW_ONLY),
        before=old.status if old else "absent",
        now=new.status if new else "absent",
    )


def _difference(old: Timing, new: Timing, comparable: int) -> Difference:
    if reason := _unlike(old, new):
        return Difference(
            subject=new.subject, batch=new.batch, ratio=None, reason=f"unlike: {reason}"
        )
    ratio = unpaired(old.samples_ns, new.samples_ns, RUN_TO_RUN[new.clock], comparable)
    runs = (("old run", old.marks), ("new run", new.marks))
    marks = [f"{which}: {', '.join(said)}" for which, said in runs if said]
    reason = "" if ratio else "too few queries for an interval"
    return Difference(
        subject=new.subject,
        batch=new.batch,
        ratio=ratio,
        reason=reason or "; ".join(marks),
        same_file=old.subject.sha256 == new.subject.sha256,
        plain=_plain(old, new),
    )


def _plain(old: Timing, new: Timing) -> dict[str, float]:
    pairs = {name: (FIGURES[of](old), FIGURES[of](new)) for name, of in PLAIN.items()}
    return {name: after / before for name, (before, after) in pairs.items() if before and after}
