"""This machine's own ceilings: large matrix products per precision, and a large copy.

Measured in a process of their own, so that the libraries they need are not in the one that is
timed. The best of several shapes and runs counts: it is a ceiling, and
where other programs ran meanwhile it says so, as it is too low then. No one shape is the best for
every precision, and a GPU needs larger ones than a CPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from vgg_deploy.artifact import Precision
from vgg_deploy.bench import load
from vgg_deploy.bench.rules import others_mark, throttled_mark
from vgg_deploy.cuda import tf32_is_off
from vgg_deploy.environment import threads
from vgg_deploy.process import module_command
from vgg_deploy.results import Ceiling

TIMEOUT_S = 120
Shape = tuple[int, int, int]  # M, K, N: [M, K] times [K, N]
_SHAPES: dict[str, tuple[Shape, ...]] = {
    "cpu": ((2048, 2048, 2048), (2048, 8192, 2048), (8192, 512, 512)),
    "cuda": ((2048, 2048, 2048), (4096, 4096, 4096), (8192, 8192, 8192)),
}
_COPY_BYTES = 256 << 20  # several times any last-level cache
_GPU_COPY_BYTES = 2 << 30  # takes a millisecond: launching one takes microseconds
_SECONDS = 0.3  # of measuring each shape
_COPY_SECONDS = 0.6  # long enough to see who else runs
_FEWEST = 3


def ceilings(device: str, *, timeout_s: float = TIMEOUT_S) -> tuple[Ceiling, ...]:
    """What this machine can do at most; what cannot be measured here is left out."""
    command = module_command(__name__, device)
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
    found = [] if device == "cuda" else [_watched(_numpy_gemm), _watched(_numpy_copy)]
    try:
        import torch
    except Exception:  # absent, or broken in any way
        return tuple(found)
    if device == "cuda" and not torch.cuda.is_available():
        return ()
    torch.set_num_threads(threads())
    found += _torch_gemms(torch, device)
    if device == "cuda":
        found.append(_torch_copy(torch))
    return tuple(found)


def _watched(measure: Callable[[], Ceiling]) -> Ceiling:
    """A ceiling of the processor, marked where others ran while it was measured."""
    before = load.look()
    found = measure()
    spent = load.between(before, load.look())
    throttled = throttled_mark(load.throttled_share(spent))
    return replace(found, marks=(*others_mark(load.cores_of_others(spent)), *throttled))


def _numpy_gemm() -> Ceiling:
    return _gemm("numpy's BLAS", "fp32", "cpu", _numpy_product)


def _gemm(
    library: str,
    precision: Precision,
    device: str,
    product: Callable[[Shape], Callable[[], object]],
    sync: Callable[[], None] | None = None,
) -> Ceiling:
    """The shape with the highest rate."""
    rates = {}
    for m, k, n in _SHAPES[device]:
        # a multiply-add is two operations
        rates[m, k, n] = 2 * m * k * n / _best(product((m, k, n)), sync)
    (m, k, n), rate = max(rates.items(), key=lambda item: item[1])
    how = f"{library}, {m}×{k} by {k}×{n}, the best of {len(rates)} shapes"
    return Ceiling(kind="gemm", precision=precision, device=device, per_s=rate, how=how)


def _numpy_product(shape: Shape) -> Callable[[], object]:
    m, k, n = shape
    random = np.random.default_rng(0).random
    a, b = random((m, k), np.float32), random((k, n), np.float32)
    out = np.empty((m, n), np.float32)
    return lambda: np.matmul(a, b, out=out)


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
        best = _best(lambda: list(pool.map(part, slices)), seconds=_COPY_SECONDS)
    how = f"numpy copy of {_COPY_BYTES >> 20} MiB in {count} threads, read and written"
    return Ceiling(kind="copy", precision=None, device="cpu", per_s=2 * _COPY_BYTES / best, how=how)


def _torch_gemms(torch: Any, device: str) -> list[Ceiling]:
    makes: dict[Precision, Callable[[Shape], Callable[[], object]]] = {
        "fp32": lambda shape: _product(torch, device, torch.float32, shape),
        "bf16": lambda shape: _product(torch, device, torch.bfloat16, shape),
        "int8": lambda shape: _int8_product(torch, device, shape),
    }
    if device == "cuda":  # a CPU has no fp16 arithmetic worth the name, and no TF32
        makes["fp16"] = lambda shape: _product(torch, device, torch.float16, shape)
        has_tf32 = torch.cuda.get_device_capability() >= (8, 0)
        if has_tf32 and not tf32_is_off():  # else it would be fp32's
            makes["tf32"] = lambda shape: _tf32_product(torch, shape)
        makes["fp8"] = lambda shape: _fp8_product(torch, device, shape)
    sync = torch.cuda.synchronize if device == "cuda" else None
    found = []
    for precision, make in makes.items():
        try:
            product = partial(_gemm, "torch", precision, device, make, sync)
            found.append(product() if device == "cuda" else _watched(product))
        except (RuntimeError, NotImplementedError, AttributeError, TypeError, ValueError):
            # not on this hardware, or not in this torch
            continue
    return found


def _product(torch: Any, device: str, dtype: Any, shape: Shape) -> Callable[[], object]:
    torch.backends.cuda.matmul.allow_tf32 = False
    m, k, n = shape
    a, b = (torch.rand(*sides, device=device).to(dtype) for sides in ((m, k), (k, n)))
    out = torch.empty(m, n, device=device, dtype=dtype)
    return lambda: torch.matmul(a, b, out=out)


def _tf32_product(torch: Any, shape: Shape) -> Callable[[], object]:
    product = _product(torch, "cuda", torch.float32, shape)
    torch.backends.cuda.matmul.allow_tf32 = True
    return product


def _int8_product(torch: Any, device: str, shape: Shape) -> Callable[[], object]:
    m, k, n = shape
    # cuBLAS takes int8 to its tensor cores with a column-major right side; a CPU gains nothing.
    right = (n, k) if device == "cuda" else (k, n)
    a, b = (torch.randint(-9, 9, s, dtype=torch.int8, device=device) for s in ((m, k), right))
    b = b.t() if device == "cuda" else b
    out = torch.empty(m, n, device=device, dtype=torch.int32)
    return lambda: torch._int_mm(a, b, out=out)


def _fp8_product(torch: Any, device: str, shape: Shape) -> Callable[[], object]:
    m, k, n = shape
    # cuBLAS has it for a column-major right side alone
    a, b = (torch.rand(*s, device=device).to(torch.float8_e4m3fn) for s in ((m, k), (n, k)))
    one = torch.ones((), device=device)
    return lambda: torch._scaled_mm(
        a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def _torch_copy(torch: Any, device: str = "cuda") -> Ceiling:
    """Of 2 GiB, or of a quarter of what is free."""
    free, _ = torch.cuda.mem_get_info()
    size = min(_GPU_COPY_BYTES, free // 4)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = _best(lambda: target.copy_(source), torch.cuda.synchronize)
    how = f"torch copy of {size >> 20} MiB, read and written"
    return Ceiling(kind="copy", precision=None, device="cuda", per_s=2 * size / best, how=how)


def _best(
    run: Callable[[], object],
    sync: Callable[[], None] | None = None,
    seconds: float = _SECONDS,
) -> float:
    """Seconds of the fastest run, after one that is not counted."""
    times: list[float] = []
    end = time.perf_counter() + seconds
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
