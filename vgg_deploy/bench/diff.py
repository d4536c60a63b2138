"""Two stored runs side by side: which cells became faster or slower, and which cannot be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vgg_deploy.bench.like import traits_of, unlike
from vgg_deploy.bench.paired import Ratio, unpaired
from vgg_deploy.results import BenchReport, Clock, Subject, Timing

# Relative standard deviation of a cell's median from one run to the next. On a host left alone it
# was 1.8 to 3.2 % in four cells (docs/results/noise.json); the GPU's figure is not calibrated.
RUN_TO_RUN: Mapping[Clock, float] = {"host": 0.03, "cuda-events": 0.01}


NEW_ONLY = "measured in the new run only"
OLD_ONLY = "measured in the old run only"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One cell at one batch size in both runs; without a ratio ``reason`` says why."""

    subject: Subject
    batch: int
    ratio: Ratio | None  # new over old
    reason: str = ""
    same_file: bool = True

    @property
    def word(self) -> str:
        """What may be said of the change."""
        return self.ratio.word if self.ratio and not self.reason else "not told"


def changed_environment(old: BenchReport, new: BenchReport) -> dict[str, tuple[str, str]]:
    """What differs between the two machines, library versions included: (old, new) by name."""
    a, b = old.environment, new.environment
    pairs: dict[str, tuple[object, object]] = {
        name: (getattr(a, name), getattr(b, name))
        for name in ("cpu", "cores", "memory_bytes", "gpu", "driver", "system", "python")
    }
    for name in sorted({*a.versions, *b.versions}):
        pairs[name] = (a.versions.get(name, "absent"), b.versions.get(name, "absent"))
    return {name: (str(x), str(y)) for name, (x, y) in pairs.items() if x != y}


def other_hardware(old: BenchReport, new: BenchReport) -> str:
    """The first difference in hardware, which makes every ratio meaningless; empty for none."""
    changed = changed_environment(old, new)
    for name in ("cpu", "cores", "gpu"):
        if name in changed:
            return f"{name} {changed[name][0]} and {changed[name][1]}"
    return ""


def differences(old: BenchReport, new: BenchReport) -> tuple[Difference, ...]:
    """Every cell of either run, in the order of the new one; all intervals hold together."""
    before = {_key(row): row for row in old.rows if row.status == "measured"}
    after = {_key(row): row for row in new.rows if row.status == "measured"}
    pairs = [(before.get(key), row) for key, row in after.items()]
    comparable = sum(old is not None and not _unlike(old, new) for old, new in pairs)
    found = [_difference(old, row, comparable) for old, row in pairs]
    gone = [row for key, row in before.items() if key not in after]
    return (*found, *(_absent(row, OLD_ONLY) for row in gone))


def _key(row: Timing) -> tuple[str, int]:
    return row.subject.id, row.batch


def _absent(row: Timing, reason: str) -> Difference:
    return Difference(subject=row.subject, batch=row.batch, ratio=None, reason=reason)


def _unlike(old: Timing, new: Timing) -> str:
    return unlike(traits_of(old), traits_of(new))


def _difference(old: Timing | None, new: Timing, comparable: int) -> Difference:
    if old is None:
        return _absent(new, NEW_ONLY)
    if reason := _unlike(old, new):
        return _absent(new, f"unlike: {reason}")
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
    )
