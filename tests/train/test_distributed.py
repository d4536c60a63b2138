"""Several gloo processes: the gradient of one, one writer, and nobody left waiting."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch._C._distributed_c10d import HashStore

from tests.train.ranks import Ranks
from vgg_deploy.model.checkpoint import load_state
from vgg_deploy.train.distributed import World, _is_loss, name_of_job, number_of_start
from vgg_deploy.train.meter import Meter, wait_for
from vgg_deploy.train.options import RunControl
from vgg_deploy.train.store import Store

MUST = RunControl(resume="must")


def losses(folder: Path) -> list[float]:
    return [json.loads(line)[1] for line in (folder / "steps-0").read_text().splitlines()]


def losses_of_test(folder: Path) -> list[float]:
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["test_loss"] for line in lines]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_state(folder / "run" / "last.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    assert Ranks(1, folder).wait() == [0]
    return folder


def assert_same(folder: Path, alone: Path) -> None:
    """Losses and weights as one process has them, but for the order of additions."""
    assert losses(folder) == pytest.approx(losses(alone), rel=1e-5)
    one, many = weights(alone), weights(folder)
    for name, value in one.items():
        torch.testing.assert_close(many[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_gradient_of_one_process(
    tmp_path: Path, alone: Path, size: int, accumulate: int
) -> None:
    assert Ranks(size, tmp_path, accumulate=accumulate).wait() == [0] * size
    assert_same(tmp_path, alone)
    left = [p.name for p in tmp_path.iterdir() if not p.name.startswith("tested-")]
    assert sorted(left) == ["run", "steps-0"]  # rank 0 alone


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_another_number_goes_on(tmp_path: Path, alone: Path) -> None:
    stopped = Ranks(2, tmp_path, signals={0: {2: signal.SIGTERM}})
    assert stopped.wait() == [130, 130]
    assert "another process" in stopped.error(1)
    assert Ranks(4, tmp_path, control=MUST).wait() == [0] * 4
    found = Store(tmp_path / "run").newest()
    assert found is not None
    assert [context["processes"] for context in found[0].contexts] == ["2", "4"]
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=1e-5)
    assert_same(tmp_path, alone)


@pytest.mark.slow
def test_averages_are_those_of_one_process(tmp_path: Path) -> None:
    """Also on the process that did not read them: it tests its part of the images."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert Ranks(1, one, ema=0.9).wait() == [0]
    assert Ranks(2, two, ema=0.9, signals={0: {2: signal.SIGTERM}}).wait() == [130, 130]
    assert Ranks(2, two, ema=0.9, control=MUST).wait() == [0, 0]
    assert_same(two, one)
    assert losses_of_test(two) == pytest.approx(losses_of_test(one), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("signalled", [0, 1])
@pytest.mark.parametrize("others", [None, RunControl()], ids=["all save", "rank 0 saves"])
def test_a_signal_between_savings_stops_all(
    tmp_path: Path, signalled: int, others: RunControl | None
) -> None:
    ranks = Ranks(
        2,
        tmp_path,
        pause=0.02,
        control=RunControl(save_every=0),
        others=others,
        epochs=100,
    )
    ranks.reached(4)
    os.kill(ranks.processes[signalled].pid or 0, signal.SIGTERM)
    assert ranks.wait(60) == [130, 130]


@pytest.mark.slow
def test_the_best_epoch_is_tested_again_by_all(tmp_path: Path) -> None:
    """While rank 0 tested alone, the others would wait for it, and give up."""
    assert Ranks(2, tmp_path, epochs=1).wait() == [0, 0]
    files = [tmp_path / f"tested-{rank}" for rank in (0, 1)]
    for file in files:
        file.unlink()
    assert Ranks(2, tmp_path, epochs=1, control=MUST).wait() == [0, 0]
    assert [file.read_text() for file in files] == ["20\n", "20\n"]


_FORWARD_AND_BACKWARD = """
import os
import torch
from torch import distributed as dist
from vgg_deploy.train.distributed import World, parallel

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
cpu = torch.device("cpu")
network = parallel(torch.nn.Linear(2, 2), World(size=2), cpu, deterministic=True)
network(torch.ones(1, 2)).sum().backward()
os.write(2, b"what is for the user")
assert network.module.weight.grad is not None
"""


def test_what_torch_warns_of_deterministic_processes_is_not_seen() -> None:
    """It comes from C++, once a process; what follows it is seen."""
    command = [sys.executable, "-c", _FORWARD_AND_BACKWARD]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "find_unused_parameters" not in done.stderr
    assert "what is for the user" in done.stderr


@pytest.mark.slow
def test_fewer_test_images_than_processes(tmp_path: Path) -> None:
    assert Ranks(3, tmp_path, tested=2, epochs=1).wait() == [0] * 3


@pytest.mark.slow
def test_images_held_out_are_the_same_for_all(tmp_path: Path) -> None:
    rows = []
    for size in (1, 3):
        folder = tmp_path / str(size)
        folder.mkdir()
        assert Ranks(size, folder, validation=0.1).wait() == [0] * size
        lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
        rows.append([json.loads(line)["validation_loss"] for line in lines])
    assert rows[1] == pytest.approx(rows[0], rel=1e-4)


@pytest.mark.slow
def test_fewer_training_images_than_processes(tmp_path: Path) -> None:
    ranks = Ranks(2, tmp_path, max_images=1)
    assert ranks.wait() == [2, 2]
    assert "1 training image for 2 processes" in ranks.error(0)


def test_a_wish_that_was_drained_counts_at_the_step_all_learn_of_it() -> None:
    meter = Meter(torch.device("cpu"), World())
    meter._lag = 1  # as with several processes
    one = torch.ones(())
    assert list(meter.push(one, one, 1, stop=True)) == []
    assert [figures.stop for figures in meter.drain()] == [True]
    assert list(meter.push(one, one, 1, stop=True)) == []
    assert meter.stop_drained


def test_a_step_that_does_not_end_is_given_up() -> None:
    answers = iter((False, False, True))
    wait_for(lambda: next(answers), lambda: False)
    with pytest.raises(RuntimeError) as caught:
        wait_for(lambda: False, lambda: True)
    assert _is_loss(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_the_other(tmp_path: Path, rank: int) -> None:
    ranks = Ranks(2, tmp_path, pause=0.05, epochs=100, control=RunControl(save_every=0))
    ranks.reached(4)
    start = time.monotonic()
    ranks.processes[rank].kill()
    codes = ranks.wait(60)
    assert time.monotonic() - start < 60
    assert codes[rank] == -signal.SIGKILL
    assert codes[1 - rank] == 6
    assert "another process of this run is gone" in ranks.error(1 - rank)
    assert Store(tmp_path / "run").newest() is not None


def test_parts_are_a_batch_without_duplicates() -> None:
    batch = torch.randperm(33)
    for size in (1, 2, 4, 7):
        parts = [World(rank=rank, size=size).part(batch) for rank in range(size)]
        assert torch.equal(torch.cat(parts), batch)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_the_start_is_agreed_whatever_an_earlier_one_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machines' own counts differ, and processes that are gone have said hello, too."""
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    store, jobs = HashStore(), set[str]()
    for start in (1, 2, 3):
        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(lambda rank: number_of_start(store, rank, 3), (2, 0, 1)))
            named = set(pool.map(lambda _: name_of_job(store), range(3)))
        assert found == [start] * 3
        jobs |= named
        store.set("hello/1", "of a process that was killed before rank 0 answered")
    assert len(jobs) == 1
    assert name_of_job(HashStore()) not in jobs
