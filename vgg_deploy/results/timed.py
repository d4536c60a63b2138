"""What bench measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from vgg_deploy.artifact import Precision
from vgg_deploy.bounds import Count, Positive, PositiveReal, Real
from vgg_deploy.environment import Environment
from vgg_deploy.errors import UsageError
from vgg_deploy.results.subject import Subject

Status = Literal["measured", "failed", "skipped"]
Clock = Literal["host", "cuda-events"]
FEWEST_BLOCKS = 5  # or rounds of them, that an interval is made from


@dataclass(frozen=True, kw_only=True)
class GpuState:
    """What the driver said of a GPU while it was measured: lowest and highest of each reading."""

    sm_mhz: tuple[Count, Count]
    memory_mhz: tuple[Count, Count]
    temperature_c: tuple[int, int]
    power_w: tuple[Real, Real]
    slowed_by: tuple[str, ...]  # reasons for lower clocks that were seen, idling apart
    other_processes: Count  # that computed on it meanwhile
    memory_bytes: Count | None  # most that this process held; None: the driver does not say


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Raw latencies of one cell at one batch size."""

    subject: Subject
    batch: Count  # 0: skipped before one was chosen
    status: Status
    reason: str = ""
    clock: Clock = "host"
    samples_ns: tuple[Count, ...] = ()  # one run each, waited for; input resident, output not read
    end_to_end_ns: tuple[Count, ...] = ()  # one call each, host to host, by the host's clock
    burst_runs: Count = 0  # enqueued one after the other, waited for once
    burst_ns: Count = 0  # what all of them took
    warmup_runs: Count = 0
    load_s: Real | None = None  # open the artifact, in a fresh process, imports apart
    import_s: Real | None = None  # import the runtime, in that process
    first_s: Real | None = None  # first inference, in that process
    peak_memory_bytes: Count | None = None  # of that process
    threads: Count | None = None  # on a CPU
    modes: Mapping[str, str] = field(default_factory=dict)  # CUDA graph, TF32, as the session says
    others_cores: Real | None = None  # cores that other programs used meanwhile
    gpu: GpuState | None = None
    marks: tuple[str, ...] = ()  # rules this measurement breaks
    ran_out: bool = False  # of a failed one: disk or memory did, which says nothing of the file

    def __post_init__(self) -> None:
        """``UsageError`` for a measurement of no images, or without any time."""
        measured = self.batch and self.samples_ns and (self.burst_ns or not self.burst_runs)
        if self.status == "measured" and not measured:
            raise UsageError(
                f"{self.subject.id} at batch {self.batch} was measured without a batch or a time",
                "measure again",
            )


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What this machine can do at most, measured beside the timings."""

    kind: Literal["gemm", "copy"]
    precision: Precision | None  # of a GEMM
    device: str
    per_s: PositiveReal  # operations (a multiply-add is two) or bytes (read and written) per second
    how: str  # library and size
    marks: tuple[str, ...] = ()  # why it may be too low


@dataclass(frozen=True, kw_only=True)
class LayerTiming:
    """One layer inside a runtime: raw durations, one per run."""

    name: str  # as in the literature: conv3_1
    samples_ns: Annotated[tuple[Count, ...], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class LayerProfile:
    """Where the time of one cell goes, layer by layer."""

    subject: Subject
    batch: Positive
    how: str
    layers: tuple[LayerTiming, ...]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One round of a comparison: every contender once, in random order."""

    order: tuple[int, ...]  # contenders by their place
    medians_ns: tuple[PositiveReal, ...]  # by place: median latency of the contender's turn
    round: int = 0  # all sessions are opened anew for each round


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Contenders timed in turns, in blocks of random order; the first is the yardstick."""

    subjects: tuple[Subject, ...]
    batch: Positive
    runs_per_turn: tuple[Positive, ...]
    blocks: Annotated[tuple[Block, ...], Field(min_length=FEWEST_BLOCKS)]
    marks: tuple[str, ...] = ()
    others_cores: Real | None = None  # that other programs used, all rounds together
    gpu: GpuState | None = None  # over all rounds; None: no GPU, or its driver says nothing

    def __post_init__(self) -> None:
        """``UsageError`` for blocks without a time of every contender, or too few rounds."""
        count = len(self.subjects)
        if any(len(times) != count for times in (self.runs_per_turn, *self._medians)):
            raise UsageError(
                f"a comparison of {count} does not hold a time of each in every block",
                "measure again",
            )
        if 1 < (rounds := len({block.round for block in self.blocks})) < FEWEST_BLOCKS:
            raise UsageError(f"{rounds} rounds give no interval", "measure again")

    @property
    def _medians(self) -> Iterator[tuple[float, ...]]:
        return (block.medians_ns for block in self.blocks)

    @property
    def seconds(self) -> float:
        """How long all turns took, lead-ins apart."""
        turns = (zip(medians, self.runs_per_turn, strict=True) for medians in self._medians)
        return sum(median * runs for turn in turns for median, runs in turn) / 1e9


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """All timings of one run of bench."""

    schema_version: int
    made_at: str
    environment: Environment
    key: str
    clock: str
    options: Mapping[str, str]  # as asked; what an older version did not note is not on record
    rows: tuple[Timing, ...]
    ceilings: tuple[Ceiling, ...] = ()
    layers: tuple[LayerProfile, ...] = ()
    contests: tuple[Contest, ...] = ()
