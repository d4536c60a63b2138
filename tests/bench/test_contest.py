"""Contests of virtual sessions: order, turns, and what they find."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain, pairwise, repeat
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.bench.test_nvml import Driver
from vgg_deploy.bench.contest import Contender, ContestOptions, contest, contest_in_rounds
from vgg_deploy.bench.load import Load
from vgg_deploy.bench.nvml import NvmlProbe
from vgg_deploy.bench.paired import ratios
from vgg_deploy.bench.virtual import Machine, VirtualSession, contender, instruments
from vgg_deploy.errors import MeasurementNotValid, UsageError
from vgg_deploy.report.ratio_tables import contest_table
from vgg_deploy.results import Contest

QUICK = ContestOptions(blocks=20, turn_seconds=0.01)
MS = 1e6


def fought(*ns: float, seed: int = 0, options: ContestOptions = QUICK) -> Contest:
    machine = Machine(seed)
    contenders = [contender(machine, f"c{i}", t) for i, t in enumerate(ns)]
    return contest(contenders, np.zeros((4, 1)), options, instruments(machine))


def test_every_block_has_every_contender_in_changing_order() -> None:
    found = fought(1 * MS, 1 * MS, 1 * MS)
    assert len(found.blocks) == 20
    assert found.batch == 4
    assert all(sorted(b.order) == [0, 1, 2] for b in found.blocks)
    assert any(a.order != b.order for a, b in pairwise(found.blocks))
    again = fought(1 * MS, 1 * MS, 1 * MS)
    assert [b.order for b in again.blocks] == [b.order for b in found.blocks]


def test_a_turn_lasts_whatever_a_run_takes() -> None:
    quick, slow = fought(0.1 * MS, 20 * MS).runs_per_turn
    assert 50 < quick < 200
    assert slow == 3


def test_ratios_are_against_the_first() -> None:
    twice, thrice = ratios(fought(1 * MS, 2 * MS, 3 * MS))
    assert twice.ratio == pytest.approx(2, rel=0.05)
    assert thrice.ratio == pytest.approx(3, rel=0.05)
    assert twice.word == thrice.word == "slower"


def test_a_planted_slowdown_is_found_and_equals_are_not_told_apart() -> None:
    """A small part of what scripts/bench_comparison.py counts in full."""
    slower = [ratios(fought(1 * MS, 1.05 * MS, seed=s))[0].word for s in range(10)]
    equal = [ratios(fought(1 * MS, 1 * MS, seed=s))[0].word for s in range(20)]
    assert slower.count("slower") >= 9
    assert equal.count("no difference shown") >= 16  # P(fewer) = 0.3 % at 5 % false alarms


class Answers(VirtualSession):
    """A session that also gives back what a bound run left."""

    left = np.ones((1, 1))

    def output(self) -> NDArray[Any]:
        return self.left


class Stale(Answers):
    left = np.zeros((1, 1))


def test_a_contender_whose_runs_answer_otherwise_is_refused() -> None:
    machine, batch = Machine(0), np.ones((1, 1))
    good, bad = contender(machine, "good", MS), contender(machine, "bad", MS)
    good = replace(good, session=Answers(machine, MS))
    bad = replace(bad, session=Stale(machine, MS))
    assert contest([good, good], batch, QUICK, instruments(machine)).blocks
    refused = pytest.raises(MeasurementNotValid, match=r"^bad:model.fp32.onnx: the timed run answ")
    with refused:
        contest([good, bad], batch, QUICK, instruments(machine))
    with refused:
        contest_in_rounds(lambda order: nullcontext([(good, bad)[i] for i in order]), 2, batch,
                          QUICK, using=instruments(machine))  # fmt: skip


class Growing(VirtualSession):
    """Every run takes a fifth longer than the one before."""

    def bind(self, _batch: NDArray[Any], /) -> Callable[[], None]:
        def run() -> None:
            self.ns *= 1.2
            self.machine.spend(self.ns)

        return run


def test_a_warm_up_that_does_not_settle_is_said() -> None:
    machine = Machine(0)
    pair = [contender(machine, name, MS) for name in "ab"]
    grown = replace(pair[1], session=Growing(machine, MS))
    few = replace(QUICK, blocks=5)
    said = ("not stable after 5 s of warm-up",)
    assert contest(pair, np.zeros((1, 1)), few, instruments(machine)).marks == ()
    found = contest([pair[0], grown], np.zeros((1, 1)), few, instruments(machine))
    assert found.marks == said
    found = contest_in_rounds(
        lambda order: nullcontext([(pair[0], grown)[i] for i in order]),
        2, np.zeros((1, 1)), few, using=instruments(machine),
    )  # fmt: skip
    assert found.marks == said
    assert "not stable" in contest_table(found).note


def test_a_gpu_is_looked_at_between_blocks() -> None:
    """Planted: a power cap in one reading of many, and a stranger on the GPU."""
    reasons = chain([1, 1, 1, 4], repeat(1))
    driver = Driver(clocks=repeat(1980), reasons=reasons, pids=[os.getpid(), 99999])
    machine = Machine(0)
    using = replace(instruments(machine), probe=NvmlProbe(driver, "gpu 0", lambda _: None))
    pair = [contender(machine, name, MS) for name in "ab"]
    pair = [replace(one, subject=replace(one.subject, device="cuda")) for one in pair]
    marks = ("slowed down: power cap", "not alone: the GPU was used by others")
    found = contest(pair, np.zeros((1, 1)), QUICK, using)
    assert found.marks == marks
    assert found.gpu is not None
    found = contest_in_rounds(lambda order: nullcontext([pair[i] for i in order]), 2,
                              np.zeros((1, 1)), QUICK, using=using)  # fmt: skip
    assert found.marks == marks
    assert "slowed down: power cap" in contest_table(found).note
    quiet = replace(found, marks=(), others_cores=0.0)
    assert "Nothing disturbed it" in contest_table(quiet).note
    assert "the GPU was not watched" in contest_table(replace(quiet, gpu=None)).note


def test_too_few_blocks_are_refused() -> None:
    with pytest.raises(UsageError, match="no interval"):
        ContestOptions(blocks=4)


def test_sessions_that_differ_by_chance_are_no_difference_of_backends() -> None:
    """Each opening has its own speed, 2 % apart: one pair would be told apart, rounds are not."""
    machine = Machine(0, noise=0.01)
    luck = np.random.default_rng(3)

    @contextmanager
    def opened(order: Sequence[int]) -> Iterator[list[Contender]]:
        yield [contender(machine, "ab"[i], MS * luck.normal(1, 0.02)) for i in order]

    once = contest_in_rounds(opened, 2, np.zeros((1, 1)), replace(QUICK, blocks=40))
    assert {block.round for block in once.blocks} == set(range(8))
    assert len(once.blocks) == 40
    (ratio,) = ratios(once)
    assert ratio.blocks == 8
    assert ratio.low < 1 < ratio.high


def test_a_place_that_slows_slows_all_of_them() -> None:
    """The session opened last is made 10 % slower; the contenders themselves are 1, 1 and 1.2."""
    machine = Machine(0)
    own = (1.0, 1.0, 1.2)
    opened_in: list[tuple[int, ...]] = []

    @contextmanager
    def opened(order: Sequence[int]) -> Iterator[list[Contender]]:
        opened_in.append(tuple(order))
        by_place = (1.0, 1.0, 1.1)
        yield [
            contender(machine, "abc"[i], MS * own[i] * by)
            for i, by in zip(order, by_place, strict=True)
        ]

    once = contest_in_rounds(opened, 3, np.zeros((1, 1)), replace(QUICK, blocks=48))
    assert set(opened_in) == {(0, 1, 2), (1, 2, 0), (2, 0, 1)}
    assert [subject.backend for subject in once.subjects] == ["a", "b", "c"]
    equal, slower = ratios(once)
    assert equal.word == "no difference shown"
    assert slower.low < 1.2 < slower.high
    assert slower.word == "slower"
    assert {order for block in once.blocks for order in block.order} == {0, 1, 2}


def test_what_opening_a_session_starts_is_no_other_program() -> None:
    """Planted: a compiler in processes of its own keeps two cores busy while sessions open."""
    machine, beside = Machine(0), 0.0

    def seen() -> Load:
        wall = machine.now_ns / 1e9
        return Load(wall=wall, busy=wall + beside, own=wall)

    @contextmanager
    def opened(order: Sequence[int]) -> Iterator[list[Contender]]:
        nonlocal beside
        machine.now_ns += 10**9
        beside += 2.0
        yield [contender(machine, "ab"[i], MS) for i in order]

    using = replace(instruments(machine), look=seen)
    options = replace(QUICK, blocks=8, turn_seconds=0.5)
    found = contest_in_rounds(opened, 2, np.zeros((1, 1)), options, using=using)
    assert found.others_cores == 0
    assert found.marks == ()


@pytest.mark.parametrize(
    ("busy", "step", "marks", "known"),
    [
        (1.0, 0.04, ("not alone: other programs used 1.0 cores meanwhile",), True),
        (0.0, 0.04, (), True),
        (1.0, 0.01, (), False),
    ],
)
def test_others_are_looked_for_over_all_rounds(
    busy: float, step: float, marks: tuple[str, ...], known: bool
) -> None:
    """Planted: a neighbour on ``busy`` cores; no single round is long enough for the counters."""
    machine, at = Machine(0), iter(range(1000))

    def seen() -> Load:
        wall = step * next(at) * 2
        return Load(wall=wall, busy=busy * wall, own=0.0)

    @contextmanager
    def opened(order: Sequence[int]) -> Iterator[list[Contender]]:
        yield [contender(machine, "ab"[i], MS) for i in order]

    using = replace(instruments(machine), look=seen)
    once = contest_in_rounds(opened, 2, np.zeros((1, 1)), replace(QUICK, blocks=8), using=using)
    assert once.marks == marks
    assert (once.others_cores is not None) == known
    assert once.seconds == pytest.approx(8 * 2 * 0.01, rel=0.2)
    note = contest_table(once).note
    assert ("could not be told" in note) == (not known)
    assert ("Nothing disturbed it" in note) == (known and not marks)
    assert "Short: " in note


def test_a_container_that_is_stopped_in_some_rounds_is_a_mark() -> None:
    machine, at = Machine(0), iter(range(1000))

    def seen() -> Load:
        n = next(at)
        return Load(wall=n, busy=0, own=0, periods=10 * n, stopped=max(0, n - 9))

    @contextmanager
    def opened(order: Sequence[int]) -> Iterator[list[Contender]]:
        yield [contender(machine, "ab"[i], MS) for i in order]

    using = replace(instruments(machine), look=seen)
    found = contest_in_rounds(opened, 2, np.zeros((1, 1)), replace(QUICK, blocks=8), using=using)
    assert found.marks == (
        "throttled: the container's processor limit struck in 4% of its periods",
    )
