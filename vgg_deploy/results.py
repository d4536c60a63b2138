"""What verify and bench measured: raw samples and their context, without torch.

Statistics are computed when they are shown, never stored instead of the samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vgg_deploy.artifact import Format, Precision
from vgg_deploy.environment import Environment

SCHEMA_VERSION = 1
VERIFY_FILE = "results/verify.json"  # relative to the bundle
BENCH_FILE = "results/bench.json"

# skipped: the backend cannot run here. failed: it should have, and broke.
Verdict = Literal["equivalent", "different", "failed", "skipped"]
Status = Literal["measured", "failed", "skipped"]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One cell of the matrix: an artifact opened by a backend."""

    artifact: str  # path inside the bundle
    sha256: str
    size_bytes: int
    format: Format
    precision: Precision
    backend: str
    device: str  # "cpu" or "cuda"

    @property
    def id(self) -> str:
        """Name of the cell: ``ort-cpu:model.fp32.onnx``."""
        return f"{self.backend}:{self.artifact}"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured value beside the limit it was judged by."""

    name: str
    value: float | None  # None: not finite
    limit: float | None  # None: reported, not judged
    ok: bool


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Top-1 hits on labelled images."""

    dataset: str
    split: str
    correct: int
    total: int

    @property
    def top1(self) -> float:
        """Share of images whose most probable class is the label, 0..1."""
        return self.correct / self.total


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One backend's outputs against the float64 reference."""

    subject: Subject
    verdict: Verdict
    reason: str  # empty when equivalent
    figures: tuple[Figure, ...] = ()
    accuracy: Accuracy | None = None
    seconds: float = 0.0

    def figure(self, name: str) -> Figure | None:
        """The figure of that name, if it was measured."""
        return next((f for f in self.figures if f.name == name), None)


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """All comparisons of one run of verify."""

    schema_version: int
    made_at: str
    environment: Environment
    key: str  # digest of everything that decides the result; equal keys may be reused
    inputs: Mapping[str, int]  # how many images of which kind
    image_source: str  # data set and split the real images came from
    batches: tuple[int, ...]
    reference: str  # how the reference was made
    rows: tuple[Comparison, ...]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Raw latencies of one cell at one batch size."""

    subject: Subject
    batch: int
    status: Status
    reason: str = ""
    samples_ns: tuple[int, ...] = ()  # one run each, inputs resident, host clock on CPU
    warmup_runs: int = 0
    load_s: float | None = None  # open the artifact, in a fresh process, imports apart
    import_s: float | None = None  # import the runtime, in that process
    first_s: float | None = None  # first inference, in that process
    peak_memory_bytes: int | None = None  # of that process
    marks: tuple[str, ...] = ()  # rules this measurement breaks


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """All timings of one run of bench."""

    schema_version: int
    made_at: str
    environment: Environment
    key: str
    clock: str
    options: Mapping[str, str]
    rows: tuple[Timing, ...]
