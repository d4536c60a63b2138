"""What a container allows, from files as the kernel writes them, and once from the kernel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vgg_deploy import cgroup, environment
from vgg_deploy.cgroup import Throttling

V1 = Path("/sys/fs/cgroup/cpu")


def process(tmp_path: Path, groups: str, mounts: str) -> Path:
    own = tmp_path / "self"
    own.mkdir()
    (own / "cgroup").write_text(groups)
    (own / "mountinfo").write_text(mounts)
    return own


def put(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def two(tmp_path: Path, group: str = "/", root: str = "/") -> tuple[Path, Path]:
    """A process under version 2, and where its groups are shown."""
    shown = tmp_path / "shown here"
    line = f"30 23 0:26 {root} {tmp_path}/shown\\040here rw,nosuid - cgroup2 cgroup2 rw\n"
    return process(tmp_path, f"0::{group}\n", f"1 0 8:1 / / rw - ext4 /dev/x rw\n{line}"), shown


def test_a_container_of_version_2(tmp_path: Path) -> None:
    own, shown = two(tmp_path)
    stat = "usage_usec 9\nnr_periods 50\nnr_throttled 12\nthrottled_usec 7"
    put(shown, cpu__max="150000 100000", memory__max="1073741824", cpu__stat=stat)
    assert cgroup.cores(own) == 1.5
    assert cgroup.memory(own) == 2**30
    assert cgroup.throttling(own) == Throttling(periods=50, stopped=12)


def test_no_limit_is_none(tmp_path: Path) -> None:
    own, shown = two(tmp_path)
    put(shown, cpu__max="max 100000", memory__max="max", cpu__stat="nr_periods 5\nnr_throttled 0")
    assert (cgroup.cores(own), cgroup.memory(own), cgroup.throttling(own)) == (None, None, None)


def test_the_lowest_limit_above_holds_and_its_counters_are_read(tmp_path: Path) -> None:
    own, shown = two(tmp_path, "/pod/box/inner")
    put(shown / "pod", cpu__max="400000 100000", memory__max="5000")
    put(shown / "pod/box", cpu__max="200000 100000", cpu__stat="nr_periods 3\nnr_throttled 1")
    put(shown / "pod/box/inner", cpu__max="max 100000", memory__max="9000")
    assert cgroup.cores(own) == 2
    assert cgroup.memory(own) == 5000
    assert cgroup.throttling(own) == Throttling(periods=3, stopped=1)


@pytest.mark.parametrize("group", ["/docker/abc", "/../../elsewhere"])
def test_a_mounted_part_is_what_is_seen(tmp_path: Path, group: str) -> None:
    own, shown = two(tmp_path, group, "/docker/abc")
    put(shown, cpu__max="100000 100000")
    assert cgroup.cores(own) == 1


def test_version_1_has_a_mount_for_each(tmp_path: Path) -> None:
    mounts = "".join(
        f"3{i} 31 0:3{i} /docker/abc {tmp_path}/{name} rw - cgroup cgroup rw,{name}\n"
        for i, name in enumerate(("cpu,cpuacct", "memory"))
    )
    groups = "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n0::/\n"
    own = process(tmp_path, groups, mounts)
    stat = "nr_periods 8\nnr_throttled 2\nthrottled_time 5"
    cpu = tmp_path / "cpu,cpuacct"
    put(cpu, cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000", cpu__stat=stat)
    put(tmp_path / "memory", memory__limit_in_bytes="4096")
    assert cgroup.cores(own) == 0.5
    assert cgroup.memory(own) == 4096
    assert cgroup.throttling(own) == Throttling(periods=8, stopped=2)
    put(cpu, cpu__cfs_quota_us="-1")
    assert cgroup.cores(own) is None


@pytest.mark.parametrize("text", ["", "nonsense", "0::", "0:cpu\n:::\n", "\0"])
def test_what_cannot_be_read_is_no_limit(tmp_path: Path, text: str) -> None:
    own = process(tmp_path, text, f"{text} - cgroup2 x y\n1 2 3 / - cgroup2\n")
    assert (cgroup.cores(own), cgroup.memory(own), cgroup.throttling(own)) == (None, None, None)
    missing = tmp_path / "nowhere"
    assert (cgroup.cores(missing), cgroup.memory(missing)) == (None, None)


@pytest.mark.parametrize(("limit", "usable"), [(None, 6), (0.5, 1), (2.9, 2), (64.0, 6)])
def test_threads_are_as_many_as_the_limit_holds(
    monkeypatch: pytest.MonkeyPatch, limit: float | None, usable: int
) -> None:
    monkeypatch.setattr(cgroup, "cores", lambda: limit)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert environment.usable_cores() == usable


def test_memory_is_what_may_be_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "memory", lambda: 2**20)
    environment.capture.cache_clear()
    try:
        assert environment.capture().memory_bytes == 2**20
        monkeypatch.setattr(cgroup, "memory", lambda: 2**62)  # version 1 without a limit
        environment.capture.cache_clear()
        assert 2**20 < environment.capture().memory_bytes < 2**62
    finally:
        environment.capture.cache_clear()


LIMITED = """
import json, os, sys, time
from vgg_deploy import cgroup, environment
from vgg_deploy.bench.load import between, look, throttled_share
from vgg_deploy.train.hardware import tuned
import torch
with open(sys.argv[1], "w") as group:
    group.write(str(os.getpid()))
before, end = look(), time.monotonic() + 1
while time.monotonic() < end:
    pass
share = throttled_share(between(before, look()))
with tuned(torch.device("cpu")):
    threads = torch.get_num_threads()
print(json.dumps([cgroup.cores(), environment.usable_cores(), threads, share]))
"""


@pytest.fixture
def group() -> Iterator[Path]:
    folder = V1 / f"vgg-deploy-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("only root may limit a group, and only where version 1 is mounted")
    yield folder
    folder.rmdir()


def test_the_kernels_own_limit_is_seen(group: Path) -> None:
    (group / "cpu.cfs_quota_us").write_text("10000")
    (group / "cpu.cfs_period_us").write_text("50000")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(group / "cgroup.procs")],
        capture_output=True, text=True, check=True, timeout=120,
        env={k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"},
    )  # fmt: skip
    cores, usable, threads, share = json.loads(done.stdout)
    assert cores == min(0.2, cgroup.cores() or 0.2)
    assert (usable, threads) == (1, 1)
    assert share > 0.5
