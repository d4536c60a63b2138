"""Reading judged figures: which way a limit works, how near a figure is to it, what is worst."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from vgg_deploy.bundle import Bundle
from vgg_deploy.report.quantities import MISSING, NOT_FINITE, percent, significant
from vgg_deploy.results import Comparison, Figure, Subject, Verdict

STALE = "stale: measured on an earlier file"
_SEVERITY: Mapping[Verdict, int] = {"different": 0, "failed": 1, "equivalent": 2, "skipped": 3}
_HIGHER_IS_BETTER = ("agreement", "cosine", "accuracy")
_LOWER_IS_BETTER = ("drop", "error", "divergence", "flips", "ratio")
_TITLES = {
    "rel_l2": "relative L2 error",
    "max_abs": "largest difference",
    "kl": "KL divergence, nats",
    "eager_ratio": "ratio to torch eager",
    "top1_drop": "top‑1 drop, points",
    "top1_drop_high": "top‑1 drop, upper end of 95 %",
    "batch_spread": "spread over batches",
    "sizes_rel_l2": "error on images scaled down",
    "eager_rel_l2": "torch eager’s error",
}


def digests(bundle: Bundle) -> dict[str, str]:
    """SHA-256 of every artifact by its path, as the manifest has them now."""
    return {str(a.path): a.sha256 for a in bundle.artifacts}


def is_stale(subject: Subject, current: Mapping[str, str] | None) -> bool:
    """Whether the file that was measured is no longer the bundle's; ``None``: nothing to say."""
    if current is None or not subject.sha256:  # no digest: there was no file to measure
        return False
    return current.get(subject.artifact) != subject.sha256


def relation(figure: Figure) -> str:
    """``≤`` or ``≥``: on which side of its limit a figure has to be."""
    if figure.limit is None:
        return ""
    if any(word in figure.name for word in _LOWER_IS_BETTER):
        return "≤"
    if any(word in figure.name for word in _HIGHER_IS_BETTER):
        return "≥"
    if figure.value is None or figure.value == figure.limit:
        return "≤"
    return "≤" if (figure.value < figure.limit) == figure.ok else "≥"


def used_up(figure: Figure) -> float:
    """Share of the room a limit leaves that a figure takes: 0 perfect, 1 at the limit."""
    if figure.limit is None:
        return 0.0
    if figure.value is None:
        return math.inf
    value, limit = figure.value, figure.limit
    if relation(figure) == "≥":
        value, limit = 1 - value, 1 - limit
    if limit > 0:
        return max(0.0, value / limit)
    return 0.0 if value <= limit else math.inf


def closest(comparison: Comparison) -> Figure | None:
    """The judged figure that broke its limit by most, or came nearest to doing so."""
    judged = [f for f in comparison.figures if f.limit is not None or not f.ok]
    return max(judged, key=lambda f: (not f.ok, used_up(f)), default=None)


def worst_first(rows: Iterable[Comparison]) -> list[Comparison]:
    """Different, failed, equivalent, skipped; within each, nearest to a limit first."""

    def rank(row: Comparison) -> tuple[int, float, str]:
        figure = closest(row)
        return (_SEVERITY[row.verdict], -used_up(figure) if figure else 0.0, row.subject.id)

    return sorted(rows, key=rank)


def title_of(name: str) -> str:
    """A figure's name for people: ``top1_agreement`` → ``top-1 agreement``."""
    plain = name.replace("_", " ").replace("top1", "top‑1").replace("top5", "top‑5")
    return _TITLES.get(name, plain)


def shown(name: str, value: float | None) -> str:
    """A figure's value: agreement in percent, a cosine near one by what it lacks."""
    if value is None:
        return NOT_FINITE
    if "agreement" in name:
        return percent(value, 2)
    if "flips" in name:
        return f"{value:,.0f}"
    if "drop" in name:
        return f"{value:.2f}"
    if "cosine" in name and 0.99 < value < 1:
        return f"1 − {significant(1 - value)}"
    return significant(value)


def value_text(figure: Figure) -> str:
    """A figure's value; a dash where there was nothing to compute and nothing to judge."""
    if figure.value is None and figure.limit is None and figure.ok:
        return MISSING
    return shown(figure.name, figure.value)


def limit_text(figure: Figure) -> str:
    """A figure's limit with its relation: ``≤ 1.20×10⁻⁵``."""
    if figure.limit is None:
        return ""
    return f"{relation(figure)} {shown(figure.name, figure.limit)}"


def tally(words: Iterable[str], order: Iterable[str]) -> str:
    """How many of each: ``3 equivalent · 1 failed``; what does not occur is left out."""
    counted = list(words)
    return " · ".join(f"{counted.count(word)} {word}" for word in order if word in counted)
