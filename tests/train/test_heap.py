from __future__ import annotations

import platform
import resource

import pytest
import torch

from vgg_deploy.train import heap
from vgg_deploy.train.heap import kept_heap

MIB = 1 << 20


def page_faults() -> int:
    """Pages that the kernel maps while 64 MiB are taken, touched and freed ten times."""
    torch.ones(64 * MIB, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(64 * MIB, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator only")
def test_freed_memory_stays_and_later_goes_back() -> None:
    usual = page_faults()
    with kept_heap():
        kept = page_faults()
    assert kept < usual / 20
    assert page_faults() > usual / 2


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert heap._glibc() is None
    with kept_heap():
        pass
