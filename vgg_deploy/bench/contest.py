"""Contenders timed in turns: blocks of random order, so that what drifts hits all of them alike."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from statistics import median

from vgg_deploy.backends.base import Answering, Array, Described, Session
from vgg_deploy.bench.answers import apart, require_same_answer
from vgg_deploy.bench.clock import Run, Stopwatch
from vgg_deploy.bench.load import Load, between, cores_of_others, look, throttled_share, together
from vgg_deploy.bench.measure import Instruments, no_garbage_collection, warm_up
from vgg_deploy.bench.rules import gpu_marks, others_mark, throttled_mark, warm_mark
from vgg_deploy.bench.stats import NS
from vgg_deploy.errors import UsageError, counted
from vgg_deploy.results import FEWEST_BLOCKS, Block, Contest, Subject

ROUNDS = 8  # or a few more, to be a multiple of the contenders
_LEAD_IN = 0.4  # of a turn, not timed: the contender before left its threads and its caches


@dataclass(frozen=True, kw_only=True)
class ContestOptions:
    """How long contenders are compared."""

    blocks: int = 40
    turn_seconds: float = 0.05  # each contender's part of a block, lead-in apart
    turn_runs: int = 3  # fewest runs of a turn
    seed: int = 0

    def __post_init__(self) -> None:
        if self.blocks < FEWEST_BLOCKS:
            raise UsageError(
                f"no interval from {counted(self.blocks, 'block')}", f"use at least {FEWEST_BLOCKS}"
            )


@dataclass(frozen=True)
class Contender:
    """An open session with its clock."""

    subject: Subject
    session: Session
    stopwatch: Stopwatch


def contest(
    contenders: Sequence[Contender],
    batch: Array,
    options: ContestOptions,
    using: Instruments | None = None,
    done: Callable[[], None] = lambda: None,
) -> Contest:
    """Time all contenders on the same input; ``done`` is told of every finished block.

    Raises ``MeasurementNotValid`` for one whose timed runs answer otherwise than its calls do.
    """
    using = using or Instruments(look=look)
    found, warm, spent = _part(contenders, batch, options, using, done, options.blocks)
    return _told(found, warm, [spent], using)


def _part(
    contenders: Sequence[Contender],
    batch: Array,
    options: ContestOptions,
    using: Instruments,
    done: Callable[[], None],
    wanted: int,
) -> tuple[Contest, bool, Load | None]:
    """So many blocks without marks, whether all contenders were warm, and what the blocks cost."""
    runs = [c.session.bind(batch) for c in contenders]
    order, shuffle = list(range(len(contenders))), random.Random(options.seed).shuffle  # noqa: S311
    blocks: list[Block] = []
    with no_garbage_collection():
        ready = [_runs_per_turn(c, run, options, using)
                 for c, run in zip(contenders, runs, strict=True)]  # fmt: skip
        turns = [runs_per_turn for runs_per_turn, _ in ready]
        before = using.look()
        using.probe.look()
        for _ in range(wanted):
            shuffle(order)
            found = dict.fromkeys(order, 0.0)
            for i in order:
                found[i] = _turn(contenders[i], runs[i], turns[i])
            medians = tuple(found[i] for i in range(len(contenders)))
            blocks.append(Block(order=tuple(order), medians_ns=medians))
            using.probe.look()
            gc.collect(0)
            done()
        spent = between(before, using.look())
    for contender in contenders:
        _require_same_answer(contender, batch)
    made = Contest(
        subjects=tuple(c.subject for c in contenders),
        batch=batch.shape[0],
        runs_per_turn=tuple(turns),
        blocks=tuple(blocks),
    )
    return made, all(warm for _, warm in ready), spent


def contest_in_rounds(
    opened: Callable[[Sequence[int]], AbstractContextManager[Sequence[Contender]]],
    count: int,
    batch: Array,
    options: ContestOptions,
    done: Callable[[], None] = lambda: None,
    using: Instruments | None = None,
) -> Contest:
    """A contest of ``count`` contenders whose sessions are opened anew several times.

    Two sessions of the same file differ, by where their memory happens to lie: about 1 % was seen,
    three times what the blocks of one pair show. So rounds are what an interval is made from. And
    the session opened second was the slower one, by 2 %: ``opened`` is given the order to open
    in, and with blocks enough everyone takes every place equally often.
    """
    rounds = min(-(-ROUNDS // count) * count, options.blocks)
    using = using or Instruments(look=look)
    parts: list[Contest] = []
    spans: list[Load | None] = []
    all_warm = True
    for number in range(rounds):
        share = options.blocks // rounds + (number < options.blocks % rounds)
        order = [(number + i) % count for i in range(count)]
        with opened(order) as contenders:
            seeded = replace(options, seed=options.seed + number)
            part, warm, spent = _part(contenders, batch, seeded, using, done, share)
        spans.append(spent)
        all_warm = all_warm and warm
        parts.append(_put_back(part, order, number))
    whole = replace(parts[0], blocks=tuple(block for part in parts for block in part.blocks))
    return _told(whole, all_warm, spans, using)


def _told(found: Contest, warm: bool, spans: Sequence[Load | None], using: Instruments) -> Contest:
    """With the rules that it breaks; of those that ran beside it, the first that were seen.

    ``spans`` are the rounds' own: what opens a session between two of them may start programs.
    """
    gpu = using.probe.seen()
    # a round may be too short for the counters, all of them together hardly are
    whole = together(spans)
    others = cores_of_others(whole)
    seen = [*map(cores_of_others, spans), others]
    beside = next((mark for mark in map(others_mark, seen) if mark), ())
    marks = (*warm_mark(warm), *beside, *throttled_mark(throttled_share(whole)), *gpu_marks(gpu))
    return replace(found, marks=marks, others_cores=others, gpu=gpu)


def _require_same_answer(contender: Contender, batch: Array) -> None:
    session, subject = contender.session, contender.subject
    if isinstance(session, Answering):
        distance = apart(session.output(), session(batch))
        modes = session.modes if isinstance(session, Described) else {}
        require_same_answer(distance, subject.precision, f"{subject.id}: ", modes)


def _put_back(part: Contest, order: Sequence[int], number: int) -> Contest:
    """A round whose contenders stood in ``order``, as if they had stood in their own."""
    at = sorted(range(len(order)), key=order.__getitem__)
    return replace(
        part,
        subjects=tuple(part.subjects[i] for i in at),
        runs_per_turn=tuple(part.runs_per_turn[i] for i in at),
        blocks=tuple(
            replace(
                block,
                order=tuple(order[i] for i in block.order),
                medians_ns=tuple(block.medians_ns[i] for i in at),
                round=number,
            )
            for block in part.blocks
        ),
    )


def _runs_per_turn(
    contender: Contender, run: Run, options: ContestOptions, using: Instruments
) -> tuple[int, bool]:
    """Warm up, and see how many runs fill a turn; also whether it became warm."""
    sync, stopwatch = contender.session.sync, contender.stopwatch
    _, warm = warm_up(run, sync, Instruments(stopwatch=stopwatch, now=using.now))
    once = median(stopwatch.lap(run, sync) for _ in range(5))
    return max(options.turn_runs, int(options.turn_seconds * NS / max(1.0, once))), warm


def _turn(contender: Contender, run: Run, runs: int) -> float:
    """Median latency of one turn in nanoseconds, after a lead-in."""
    sync, lap = contender.session.sync, contender.stopwatch.lap
    for _ in range(max(1, int(_LEAD_IN * runs))):
        lap(run, sync)
    return float(median(lap(run, sync) for _ in range(runs)))
