"""What two timings must have in common before a ratio of them means anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vgg_deploy.artifact import Precision
from vgg_deploy.results import Clock, Timing

# Modes that change what is computed or what is inside the measured time.
_MODES = ("tf32", "transfers")


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a latency depends on besides the backend that is being compared."""

    precision: Precision
    device: str
    batch: int = 0
    clock: Clock = "host"
    threads: int | None = None
    modes: Mapping[str, str] = field(default_factory=dict)


def traits_of(row: Timing) -> Traits:
    """The traits of a stored timing."""
    subject = row.subject
    return Traits(
        precision=subject.precision,
        device=subject.device,
        batch=row.batch,
        clock=row.clock,
        threads=row.threads,
        modes=row.modes,
    )


def changed_modes(a: Traits, b: Traits) -> dict[str, tuple[str, str]]:
    """Other modes in which they differ, a CUDA graph for one; a ratio of them has a meaning."""
    told = ((mode, a.modes.get(mode, "off"), b.modes.get(mode, "off"))
            for mode in sorted({*a.modes, *b.modes}.difference(_MODES)))  # fmt: skip
    return {mode: (one, other) for mode, one, other in told if one != other}


def unlike(a: Traits, b: Traits, *, across_precisions: bool = False) -> str:
    """The first thing in which they differ: ``precision fp32 and int8``; empty when alike.

    ``across_precisions``: that they compute in other ones is what is being compared; TF32 is one.
    """
    pairs: list[tuple[str, object, object]] = [
        (name, getattr(a, name), getattr(b, name))
        for name in ("precision", "device", "batch", "clock")
        if not (name == "precision" and across_precisions)
    ]
    if a.threads and b.threads:  # older results do not know theirs
        pairs.append(("threads", a.threads, b.threads))
    modes = [mode for mode in _MODES if not (mode == "tf32" and across_precisions)]
    pairs += [(mode, a.modes.get(mode, "off"), b.modes.get(mode, "off")) for mode in modes]
    return next((f"{name} {one} and {other}" for name, one, other in pairs if one != other), "")
