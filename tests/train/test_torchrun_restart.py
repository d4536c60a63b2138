"""What torchrun starts again: the same job goes on by itself, another one's run is left alone."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from torch._C._distributed_c10d import TCPStore

from tests.train.ranks import free_port
from tests.train.test_loop import quick
from tests.train.test_restart import Signalled, stop_after
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import Interrupted, RefusedInput, ResourceLimit
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.loop import train
from vgg_deploy.train.options import RunControl
from vgg_deploy.train.store import Store


class Torchrun:
    """A job of one process, and what torchrun tells it.

    ``agent``: its store is torchrun's and outlives its starts; else each start has its own.
    """

    def __init__(
        self, patch: pytest.MonkeyPatch, *, agent: bool = True, name: str = "none"
    ) -> None:
        self._patch, self._name = patch, name
        self._store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
        self._agent = agent

    def starts(self, count: int) -> None:
        """From now on ``train`` is of this job, after so many failures."""
        port = self._store.port if self._agent else free_port()
        for name, value in {
            "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": str(self._agent),
            "TORCHELASTIC_RUN_ID": self._name, "TORCHELASTIC_RESTART_COUNT": str(count),
        }.items():  # fmt: skip
            self._patch.setenv(name, value)


def test_torchruns_restart_goes_on_with_its_own_run_alone(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Torchrun(monkeypatch)
    job.starts(0)
    stop_after(tmp_path, card, few, 2)
    job.starts(1)
    before = Store(tmp_path).found()
    with pytest.raises(RefusedInput, match="another run"):
        train(card, few, quick(seed=5), tmp_path)
    assert Store(tmp_path).found() == before
    watch = Signalled(0)
    train(card, few, quick(), tmp_path, watch)
    assert watch.notes == ["resumed in epoch 1 after step 2"]


def test_a_restart_is_of_a_job_not_of_its_name(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job, of the same run id, failed once before it had taken the folder."""
    first, second = Torchrun(monkeypatch), Torchrun(monkeypatch)
    first.starts(0)
    stop_after(tmp_path, card, few, 2)
    second.starts(1)
    kept = RunControl(keep_unfinished="all")
    with pytest.raises(RefusedInput, match="holds a run that was interrupted"):
        train(card, few, quick(), tmp_path, control=kept)
    note = tmp_path / "checkpoints" / "job.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"started": time.time() - 601}))
    limited = RunControl(max_minutes=10, resume="must")
    watch = Signalled(0)
    train(card, few, quick(), tmp_path, watch, limited)  # its own time
    assert watch.notes == ["resumed in epoch 1 after step 2"]


def test_a_restart_goes_on_where_no_store_outlives_it(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with etcd; another name is another job."""
    job = Torchrun(monkeypatch, agent=False, name="one")
    job.starts(0)
    stop_after(tmp_path, card, few, 2)
    kept, watch = RunControl(keep_unfinished="all"), Signalled(0)
    Torchrun(monkeypatch, agent=False, name="two").starts(1)
    with pytest.raises(RefusedInput, match="holds a run that was interrupted"):
        train(card, few, quick(), tmp_path, control=kept)
    job.starts(1)
    train(card, few, quick(), tmp_path, watch, kept)
    assert watch.notes == ["resumed in epoch 1 after step 2"]


def test_the_time_limit_counts_from_a_jobs_first_start(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = RunControl(max_minutes=10)
    first, second = Torchrun(monkeypatch), Torchrun(monkeypatch)
    first.starts(0)
    with pytest.raises(Interrupted):
        train(card, few, quick(), tmp_path, Signalled(2), limited)
    note = tmp_path / "checkpoints" / "job.json"
    job = json.loads(note.read_text())
    note.write_text(json.dumps(job | {"started": job["started"] - 601}))
    first.starts(1)
    with pytest.raises(ResourceLimit, match="10 minutes ran out in epoch 1 after step 2"):
        train(card, few, quick(), tmp_path, control=limited)
    second.starts(0)  # a new job has its own time
    train(card, few, quick(), tmp_path, control=replace(limited, resume="must"))
