"""Keep freed memory in the process while training on the CPU.

glibc gives every large block back to the kernel when it is freed and asks for it again a moment
later; each page is then cleared and mapped anew. A training step frees and takes gigabytes, so
that this costs 45 % of its time at 224 px (docs/LOG.md). torch has no caching allocator on
the CPU, the C library's own switches do the same.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of mallopt(3), from <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_NEVER = 2**31 - 1
# Where glibc's own dynamic adjustment ends in a process that has freed a large block:
# thresholds of 32 MiB and twice that, and its default count of mappings.
_USUAL = ((_M_MMAP_MAX, 65_536), (_M_MMAP_THRESHOLD, 32 << 20), (_M_TRIM_THRESHOLD, 64 << 20))


@contextmanager
def kept_heap() -> Iterator[None]:
    """Within the block freed memory stays with the process; a no-op without glibc."""
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        for parameter, value in _USUAL:
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
