"""What verify found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vgg_deploy.bounds import Count, Positive, Real
from vgg_deploy.environment import Environment
from vgg_deploy.errors import UsageError
from vgg_deploy.results.subject import Subject

Z95 = 1.959964  # of the normal distribution

# skipped: the backend cannot run here. failed: it should have, and broke.
Verdict = Literal["equivalent", "different", "failed", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured value beside the limit it was judged by."""

    name: str
    value: Real | None  # None: not finite
    limit: Real | None  # None: reported, not judged
    ok: bool


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Hits on labelled images, beside torch eager's on the same ones."""

    dataset: str
    split: str
    correct: Count
    total: Positive
    top5_correct: Count | None = None  # None: not counted
    lost: Count = 0  # images that torch eager has right and this one wrong
    won: Count = 0  # the other way round
    top5_lost: int = 0  # lost minus won, for the first five classes
    confusion: tuple[tuple[Count, ...], ...] = ()  # [label][answer]; empty for many classes
    available: Count | None = None  # images of all splits; None: not on record

    def __post_init__(self) -> None:
        """``UsageError`` for more hits than images, or a confusion matrix that is not square."""
        counts = (self.correct, self.top5_correct or 0, self.lost, self.won, abs(self.top5_lost))
        if max(counts) > self.total:
            raise UsageError(f"{max(counts)} of {self.total} images were counted", "count again")
        if any(len(row) != len(self.confusion) for row in self.confusion):
            raise UsageError("the confusion matrix is not square", "count again")

    @property
    def top1(self) -> float:
        """Share of images whose most probable class is the label, 0..1."""
        return self.correct / self.total

    @property
    def drop(self) -> float:
        """Points of top-1 that are lost against torch eager; a gain is negative."""
        return 100 * (self.lost - self.won) / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of ``top1``."""
        return wilson(self.correct, self.total)

    @property
    def drop_interval(self) -> tuple[float, float]:
        """95 % interval of the drop against torch eager, points; positive is worse.

        Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial
        proportions based on paired data" (2012).
        """
        total = self.total + 2
        lost, won = (self.lost + 1) / total, (self.won + 1) / total
        half = Z95 * math.sqrt(max(0.0, lost + won - (lost - won) ** 2) / total)
        return 100 * (lost - won - half), 100 * (lost - won + half)


def wilson(hits: int, total: int) -> tuple[float, float]:
    """95 % interval of a share, 0..1: Wilson, "Probable inference" (1927)."""
    share, z2 = hits / total, Z95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, kw_only=True)
class WorstImage:
    """The input with the largest error, or the first that gave NaN or infinity."""

    name: str  # "fashion-mnist test #4711", "noise 2", "all 255"
    rel_l2: Real | None  # None: not finite
    expected: str  # the reference's first class and its probability: "coat 0.97"
    found: str  # the backend's
    margin: Real  # the reference's first logit minus its second
    png: str = ""  # base64, at most 112 px


@dataclass(frozen=True, kw_only=True)
class Hop:
    """One step of an artifact's descent: what making ``child`` from ``parent`` added."""

    parent: str  # paths in the bundle
    child: str
    backend: str  # that ran the child; empty when it could not be run
    rel_l2: Real | None  # of the child against float64
    limit: Real | None  # None: not judged by closeness
    added: Real | None  # relative L2 between the child's and the parent's outputs
    ok: bool | None  # None: the child was not run, could not be, or is as wrong as its parent
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of the network, judged like the logits."""

    name: str  # pool1 … pool5, fc6, fc7, fc8, as many as there are
    rel_l2: Real | None  # None: not finite
    limit: Real
    ok: bool


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where an artifact begins to diverge; ``stage`` is None when no stage does."""

    stage: str | None
    stages: tuple[Stage, ...]
    note: str = ""  # why nothing could be located, or how it was


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One backend's outputs against the float64 reference."""

    subject: Subject
    verdict: Verdict
    reason: str  # empty when equivalent
    figures: tuple[Figure, ...] = ()
    accuracy: Accuracy | None = None
    seconds: Real = 0.0
    worst: WorstImage | None = None
    hops: tuple[Hop, ...] = ()  # from the checkpoint to this artifact
    location: Location | None = None
    ran_out: bool = False  # of a failed one: disk or memory did, which says nothing of the file

    def figure(self, name: str) -> Figure | None:
        """The figure of that name, if it was measured."""
        return next((f for f in self.figures if f.name == name), None)


@dataclass(frozen=True, kw_only=True)
class TrippedGate:
    """A condition of ``--fail-if`` that held."""

    gate: str  # as it was written: "top1_drop>0.5"
    subject: str
    value: Real | None


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """All comparisons of one run of verify."""

    schema_version: int
    made_at: str
    environment: Environment
    key: str  # digest of everything that decides the result; equal keys may be reused
    inputs: Mapping[str, Count]  # how many images of which kind
    image_source: str  # data set and split the real images came from
    batches: tuple[Positive, ...]
    reference: str  # how the reference was made
    rows: tuple[Comparison, ...]
    tolerances: Mapping[str, Mapping[str, Real]] = field(default_factory=dict)  # by precision
    gates: tuple[str, ...] = ()  # conditions that were asked for
    tripped: tuple[TrippedGate, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)  # as asked; empty: not on record
