"""Two torchruns on this machine stand for two machines: one process dies, both go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.check_ranks import JOB, workers_of
from tests.train.ranks import free_port
from vgg_deploy.bundle import open_bundle
from vgg_deploy.train.store import Store

LIMIT = 240  # seconds, of a busy core


def torchrun(out: Path, port: int) -> subprocess.Popen[str]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
        "--max-restarts", "3", "--monitor-interval", "0.1", "--rdzv-backend", "c10d",
        "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "two", "--local-addr", "localhost",
        "-m", "vgg_deploy.train", *JOB, "--epochs", "4", "-o", str(out),
    ]  # fmt: skip
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    port = free_port()
    both = [torchrun(tmp_path / "out", port) for _ in range(2)]
    yield both
    for node in both:
        for process in workers_of(node.pid).values():
            os.kill(process, signal.SIGKILL)
        node.kill()
        node.communicate()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="Linux only")
def test_both_go_on_though_one_alone_counts_a_failure(
    tmp_path: Path, nodes: list[subprocess.Popen[str]]
) -> None:
    store, end = Store(tmp_path / "out" / "training"), time.monotonic() + LIMIT
    while not store.found() and time.monotonic() < end:
        time.sleep(0.05)
    ranks = {rank: pid for node in nodes for rank, pid in workers_of(node.pid).items()}
    assert sorted(ranks) == [0, 1]
    # stands still, so that its torchrun sees a machine that waits and not a failure of its own
    os.kill(ranks[1], signal.SIGSTOP)
    os.kill(ranks[0], signal.SIGKILL)
    time.sleep(2)
    os.kill(ranks[1], signal.SIGCONT)
    said = [node.communicate(timeout=max(1, end - time.monotonic()))[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    assert sum("resumed in epoch" in text for text in said) == 1
    assert open_bundle(tmp_path / "out").checkpoint.made_by["processes"] == "2"
