from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from scripts import check_ranks


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_torchrun_goes_on_after_a_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real torchrun, whose store keeps the addresses of the dead."""
    monkeypatch.setattr(check_ranks, "LIMIT", 180.0)  # a busy machine may take longer
    report = check_ranks.check(ranks=2, kills=1, epochs=2, seed=0)
    assert [kill.outcome for kill in report.kills] == ["recovered", "recovered"]
    assert report.exit_code == 0
    assert report.same_weights


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")
def test_a_check_that_fails_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    workers: list[int] = []

    def broken(job: check_ranks.Job, *_given: int) -> list[check_ranks.Kill]:
        assert job.wait_beyond(0, 180) == "recovered"  # it trains
        workers.extend((job.process.pid, *job.workers().values()))
        raise RuntimeError("rank 0 does not run")

    monkeypatch.setattr(check_ranks, "kill_all", broken)
    with pytest.raises(RuntimeError, match="does not run"):
        check_ranks.check(ranks=2, kills=1, epochs=1000, seed=0)
    left = [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert (len(workers), left) == (3, [])
