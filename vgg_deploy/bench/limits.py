"""This machine's own ceilings: large matrix products per precision, and a large copy.

Measured in a process of their own, so that the libraries they need are not in the one that is
timed. The best of several runs counts: it is a ceiling.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from vgg_deploy.artifact import Precision
from vgg_deploy.environment import threads
from vgg_deploy.results import Ceiling

TIMEOUT_S = 120
_SIDE = 2048  # of the square matrices
_COPY_BYTES = 256 << 20  # several times any last-level cache
_SECONDS = 0.5  # of measuring each
_FEWEST = 3


def ceilings(device: str, *, timeout_s: float = TIMEOUT_S) -> tuple[Ceiling, ...]:
    """What this machine can do at most; what cannot be measured here is left out."""
    command = [sys.executable, "-m", __name__, device]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        lines = done.stdout.splitlines()
        return TypeAdapter(tuple[Ceiling, ...]).validate_json(lines[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        return ()


def measure_ceilings(device: str) -> tuple[Ceiling, ...]:
    """All ceilings of a device, in this process."""
    found = [] if device == "cuda" else [_numpy_gemm(), _numpy_copy()]
    try:
        import torch
    except ImportError:
        return tuple(found)
    if device == "cuda" and not torch.cuda.is_available():
        return ()
    torch.set_num_threads(threads())
    found += _torch_gemms(torch, device)
    if device == "cuda":
        found.append(_torch_copy(torch))
    return tuple(found)


def _numpy_gemm() -> Ceiling:
    a, b = (np.random.default_rng(s).random((_SIDE, _SIDE), np.float32) for s in (0, 1))
    out = np.empty_like(a)
    best = _best(lambda: np.matmul(a, b, out=out))
    how = f"numpy's BLAS, {_SIDE}×{_SIDE}"
    return Ceiling(kind="gemm", precision="fp32", device="cpu", per_s=_OPS / best, how=how)


def _numpy_copy() -> Ceiling:
    """Each thread copies its own part; bytes read and bytes written both count."""
    source = np.ones(_COPY_BYTES, np.uint8)
    target = np.empty_like(source)
    count = threads()
    parts = np.array_split(np.arange(0, _COPY_BYTES + 1, 4096), count)
    slices = [slice(int(p[0]), int(p[-1])) for p in parts]

    def part(piece: slice) -> None:
        np.copyto(target[piece], source[piece])

    with ThreadPoolExecutor(count) as pool:
        best = _best(lambda: list(pool.map(part, slices)))
    how = f"numpy copy of {_COPY_BYTES >> 20} MiB in {count} threads, read and written"
    return Ceiling(kind="copy", precision=None, device="cpu", per_s=2 * _COPY_BYTES / best, how=how)


def _torch_gemms(torch: Any, device: str) -> list[Ceiling]:
    torch.backends.cuda.matmul.allow_tf32 = False
    makes: dict[Precision, Callable[[], Callable[[], object]]] = {
        "fp32": lambda: _product(torch, device, torch.float32),
        "bf16": lambda: _product(torch, device, torch.bfloat16),
        "int8": lambda: _int8_product(torch, device),
    }
    if device == "cuda":  # a CPU has no fp16 arithmetic worth the name, and no TF32
        makes["fp16"] = lambda: _product(torch, device, torch.float16)
        makes["tf32"] = lambda: _tf32_product(torch)
    found = []
    for precision, make in makes.items():
        try:
            best = _best(make(), torch.cuda.synchronize if device == "cuda" else None)
        except (RuntimeError, NotImplementedError, AttributeError):  # not on this hardware
            continue
        how = f"torch, {_SIDE}×{_SIDE}"
        found.append(
            Ceiling(kind="gemm", precision=precision, device=device, per_s=_OPS / best, how=how)
        )
    return found


def _product(torch: Any, device: str, dtype: Any) -> Callable[[], object]:
    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = (torch.rand(_SIDE, _SIDE, device=device).to(dtype) for _ in "ab")
    out = torch.empty_like(a)
    return lambda: torch.matmul(a, b, out=out)


def _tf32_product(torch: Any) -> Callable[[], object]:
    product = _product(torch, "cuda", torch.float32)
    torch.backends.cuda.matmul.allow_tf32 = True
    return product


def _int8_product(torch: Any, device: str) -> Callable[[], object]:
    a, b = (torch.randint(-9, 9, (_SIDE, _SIDE), dtype=torch.int8, device=device) for _ in "ab")
    return lambda: torch._int_mm(a, b)


def _torch_copy(torch: Any) -> Ceiling:
    source = torch.ones(_COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    best = _best(lambda: target.copy_(source), torch.cuda.synchronize)
    how = f"torch copy of {_COPY_BYTES >> 20} MiB, read and written"
    return Ceiling(
        kind="copy", precision=None, device="cuda", per_s=2 * _COPY_BYTES / best, how=how
    )


_OPS = 2 * _SIDE**3  # a multiply-add is two operations


def _best(run: Callable[[], object], sync: Callable[[], None] | None = None) -> float:
    """Seconds of the fastest run, after one that is not counted."""
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < _FEWEST + 1 or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        if sync:
            sync()
        times.append(time.perf_counter() - begin)
    return min(times[1:])


if __name__ == "__main__":
    _found = measure_ceilings(sys.argv[1])
    _plain = TypeAdapter(tuple[Ceiling, ...]).dump_python(_found, mode="json")
    print(json.dumps(_plain))  # noqa: T201
