"""TensorRT's timing cache on disk: one per TensorRT, CUDA and GPU.

A rebuild then skips the kernels that were timed before. The file holds its own SHA-256 in front of
TensorRT's bytes, so that a damaged one is noticed here and not by native code.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from vgg_deploy.cuda import Gpu
from vgg_deploy.files import atomic, user_cache
from vgg_deploy.trt.flavour import Library
from vgg_deploy.trt.progress import Progress

_DIGEST = 32  # bytes
_WAIT_S = 600.0


def cache_folder() -> Path:
    """In the user's cache."""
    return user_cache("timing")


def cache_path(library: Library, gpu: Gpu) -> Path:
    """The file for this TensorRT, CUDA and GPU."""
    parts = (library.version, f"cuda{gpu.cuda}", gpu.name, f"sm{gpu.compute_capability}")
    name = "-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in parts)
    return cache_folder() / f"{name}.cache"


@contextmanager
def timing_cache(library: Library, config: Any, gpu: Gpu, progress: Progress) -> Iterator[None]:
    """Give ``config`` the stored cache; store what the build in the block has added.

    One build at a time uses a cache. A damaged or refused file is said and built anew.
    """
    path = cache_path(library, gpu)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock"), timeout=_WAIT_S):
        stored = _read(path, progress)
        if not _use(config, stored) and stored:
            progress.say(f"timing cache {path} is of no use to this TensorRT; it is made anew")
            _use(config, b"")
        yield
        used = config.get_timing_cache()
        if used is not None:
            _write(path, bytes(used.serialize()))


def _use(config: Any, content: bytes) -> bool:
    cache = config.create_timing_cache(content)
    return cache is not None and bool(config.set_timing_cache(cache, False))


def _read(path: Path, progress: Progress) -> bytes:
    """The stored bytes; none when there is no file or it is damaged."""
    if not path.is_file():
        return b""
    content = path.read_bytes()
    digest, stored = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(stored).digest() != digest:
        progress.say(f"timing cache {path} is damaged; it is made anew")
        return b""
    return stored


def _write(path: Path, content: bytes) -> None:
    with atomic(path) as partial:
        partial.write_bytes(hashlib.sha256(content).digest() + content)
