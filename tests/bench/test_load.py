"""Who else used the processor."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from vgg_deploy.bench import load
from vgg_deploy.bench.load import Load, between, cores_of_others, look, throttled_share, together

LINUX = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="reads Linux's /proc/stat")


def at(wall: float, busy: float, own: float) -> Load:
    return Load(wall=wall, busy=busy, own=own)


def test_what_others_used_is_what_is_not_our_own() -> None:
    assert cores_of_others(between(at(0, 50, 5), at(10, 65, 10))) == pytest.approx(1.0)
    assert cores_of_others(between(at(0, 50, 5), at(10, 54.9, 10))) == 0  # ticks are coarse


def test_too_short_or_unknown_is_not_guessed() -> None:
    assert cores_of_others(between(at(0, 0, 0), at(0.1, 1, 0))) is None
    assert cores_of_others(between(None, at(1, 1, 0))) is None
    assert cores_of_others(between(at(1, 1, 0), None)) is None


def test_spans_add_up_and_one_that_is_not_known_makes_the_sum_unknown() -> None:
    short = [at(0.3, 0.4, 0.2), at(0.3, 0.3, 0.2)]
    assert [cores_of_others(span) for span in short] == [None, None]
    assert cores_of_others(together(short)) == pytest.approx(0.5)
    assert together([*short, None]) is None


def test_how_often_a_container_was_stopped() -> None:
    def at(periods: int, stopped: int) -> Load:
        return Load(wall=1, busy=1, own=1, periods=periods, stopped=stopped)

    spans = [between(at(100, 7), at(110, 8)), between(at(110, 8), at(120, 12))]
    assert [throttled_share(span) for span in spans] == [0.1, 0.4]
    assert throttled_share(together(spans)) == 0.25
    assert throttled_share(at(0, 0)) == throttled_share(None) == 0


def test_the_counters_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_STAT", tmp_path / "stat")
    assert look() is None
    # user nice system idle iowait irq softirq steal guest guest_nice
    (tmp_path / "stat").write_text("cpu  100 20 30 9999 999 4 5 6 70 80\ncpu0 ...\n")
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    found = look()
    assert found is not None
    assert found.busy == pytest.approx(1.65)


COUNTED = "cpu  100 0 0 0 0 0 0 0\ncpu0 10 0 0 0 0 0 0 0\ncpu1 90 0 0 0 0 0 0 0\n"


@LINUX
@pytest.mark.parametrize(
    ("allowed", "busy"),
    [({0}, 0.1), ({1}, 0.9), ({0, 1}, 1.0), ({0, 7}, 1.0), ({6}, 1.0)],  # 6 and 7: not counted
)
def test_of_a_process_that_is_kept_to_some_cores_only_these_count(
    allowed: set[int], busy: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stat").write_text(COUNTED)
    monkeypatch.setattr(load, "_STAT", tmp_path / "stat")
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    monkeypatch.setattr("os.sched_getaffinity", lambda task: allowed)
    found = look()
    assert found is not None
    assert found.busy == pytest.approx(busy)


def test_a_process_that_was_moved_meanwhile_is_not_told() -> None:
    one, other = (replace(at(wall, 5, 1), cores=frozenset({wall})) for wall in (0, 1))
    moved, stayed = between(one, other), between(one, replace(other, cores=one.cores))
    assert cores_of_others(stayed) is not None
    assert cores_of_others(moved) is None
    assert cores_of_others(together([stayed, moved])) is None


def test_that_a_limit_stopped_a_process_is_told_though_it_was_moved() -> None:
    before = replace(at(0, 5, 1), cores=frozenset({0}), periods=10)
    after = replace(at(1, 5, 1), cores=frozenset({1}), periods=20, stopped=5)
    assert throttled_share(between(before, after)) == 0.5


@LINUX
def test_a_busy_neighbour_is_seen() -> None:
    code = "import time; end = time.time() + 5\nwhile time.time() < end: pass"
    with subprocess.Popen([sys.executable, "-c", code]) as neighbour:
        time.sleep(0.2)
        before = look()
        time.sleep(1)
        others = cores_of_others(between(before, look()))
        neighbour.kill()
    assert others is not None
    assert others > 0.3
