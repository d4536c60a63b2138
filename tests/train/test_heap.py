from __future__ import annotations

import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vgg_deploy.train import heap
from vgg_deploy.train.heap import kept_heap

MIB = 1 << 20


SETTLED = 20  # takes until freed blocks serve every new one; up to 8 were seen


def take(times: int) -> None:
    """Take, touch and free 64 MiB."""
    for _ in range(times):
        torch.ones(64 * MIB, dtype=torch.uint8)


def page_faults() -> int:
    """Pages that the kernel maps during ten takes, once the heap has settled."""
    take(SETTLED)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    take(10)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Bytes of this process that lie in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def measured() -> tuple[int, ...]:
    """Page faults without and within; bytes in memory before, within and after."""
    usual = page_faults()
    before = resident()
    with kept_heap():
        kept = page_faults()
        inside = resident()
    return usual, kept, before, inside, resident()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator only")
def test_freed_memory_stays_and_later_goes_back() -> None:
    """In a process of its own: after a failed allocation glibc takes a thread's memory elsewhere,
    and in a whole run of the tests there are such failures.
    """
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    usual, kept, before, inside, after = map(int, done.stdout.split())
    assert kept < usual / 20
    assert inside > after + 48 * MIB, "nothing was kept, or nothing went back"
    assert after < before + 32 * MIB


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert heap._glibc() is None
    with kept_heap():
        pass


if __name__ == "__main__":
    sys.stdout.write(" ".join(map(str, measured())))
