"""The script that measures what the timing loop costs: its parts add up."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import bench_overhead
from scripts.bench_overhead import PIXEL, bare, overhead, queried, smallest
from vgg_deploy.backends.base import Array
from vgg_deploy.backends.fake import FakeBackend
from vgg_deploy.bench.measure import MeasureOptions

_SPUN_NS = 200_000


class Spinning:
    """A session whose run takes a known time."""

    def __call__(self, batch: Array, /) -> Array:
        return batch

    def bind(self, _batch: Array, /) -> Callable[[], None]:
        def run() -> None:
            end = time.perf_counter_ns() + _SPUN_NS
            while time.perf_counter_ns() < end:
                pass

        return run

    def sync(self) -> None:
        pass


def test_the_fake_backend_runs_the_smallest_artifact(tmp_path: Path) -> None:
    with FakeBackend().open(smallest(tmp_path), tmp_path) as session:
        assert session(PIXEL).shape == (1, 2)


def test_the_time_of_the_run_itself_is_in_all_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_overhead, "_UNCLOCKED", 10)
    whole, samples = queried(Spinning(), PIXEL, MeasureOptions(min_seconds=0.02, percentile=50))
    assert whole >= min(samples) >= _SPUN_NS
    assert bare(Spinning(), PIXEL, 0.02) >= _SPUN_NS


def test_what_is_judged_is_what_the_loop_adds() -> None:
    found = overhead(rounds=3, seconds=0.02)
    assert found["queries"] >= 3 * 662
    assert found["plain_ns"] > 0
    assert found["whole_query_ns"] > found["timed_ns"]
    assert found["added_ns"] == sorted(found["added_ns_of_turns"])[1]
    assert found["added_ns"] < found["whole_query_ns"]
    assert found["holds"] == (found["added_ns"] < found["limit_ns"])
