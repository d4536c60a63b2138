"""Versions, processor, GPU and driver of this machine as one frozen value."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

from vgg_deploy import cgroup
from vgg_deploy.errors import UsageError

# Distributions whose version can change a file's bytes, an output or a timing.
PACKAGES = (
    "vgg-deploy",
    "numpy",
    "torch",
    "torchvision",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-cu13-bindings",
    "tensorrt-rtx-cu13-bindings",
    "cuda-bindings",
)
# Modules that come in builds of many names, and the names above that they may have.
_BUILDS = {
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "tensorrt": ("tensorrt", "tensorrt-cu13-bindings"),
}
# Instruction sets that decide which kernels a CPU backend can use, by the row of the kernel's
# table that names them: of x86 and of ARM. x86 has an "sme", too: encryption of memory.
_CPU_FLAGS = {
    "flags": ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16"),
    "Features": ("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
}
# What a compiler for this very processor uses of such a row: its vectors.
_VECTORS = {
    "flags": re.compile("avx|amx|fma|f16c|bmi"),
    "Features": re.compile("asimd|sve|sme|i8mm|bf16|fphp"),
}


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Where a result was measured."""

    versions: Mapping[str, str]
    python: str
    system: str
    cpu: str
    cpu_flags: tuple[str, ...]
    cores: int  # logical cores this process may use
    memory_bytes: int
    gpu: str | None
    driver: str | None


def versions(*names: str) -> dict[str, str]:
    """Installed versions of distributions, without importing them; absent ones are left out.

    Of a build with another name, such as onnxruntime-openvino, that name is told with its version.
    """
    found = ((name, _version(name) or _other_build(name)) for name in names or PACKAGES)
    return {name: version for name, version in found if version}


def _version(name: str) -> str | None:
    try:
        return _told(metadata.distribution(name), "Version")
    except metadata.PackageNotFoundError:
        return None


def _told(distribution: metadata.Distribution, key: str) -> str | None:
    """A field of its METADATA; None where an uninstall left a folder without that file."""
    fields = distribution.metadata
    return fields[key] or None if fields and key in fields else None


@cache
def _other_build(module: str) -> str | None:
    """Version and name of what brings a module that none of its usual distributions does."""
    usual = _BUILDS.get(module)
    if not usual or any(map(_version, usual)) or PathFinder.find_spec(module) is None:
        return None
    bring = (one for one in metadata.distributions() if _brings(one, module))
    known = ((_told(one, "Name"), _told(one, "Version")) for one in bring)
    return min((f"{version} ({name})" for name, version in known if name and version), default=None)


def _brings(distribution: metadata.Distribution, module: str) -> bool:
    """Reads its record, which is slow; ``packages_distributions`` trips over a lost METADATA."""
    top = (distribution.read_text("top_level.txt") or "").split()
    return module in top or any(file.parts[0] == module for file in distribution.files or ())


@cache
def capture() -> Environment:
    """Look at this machine once."""
    gpu, driver = _nvidia()
    return Environment(
        versions=versions(),
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        cpu=_cpu_name(),
        cpu_flags=_cpu_flags(),
        cores=usable_cores(),
        memory_bytes=_memory_bytes(),
        gpu=gpu,
        driver=driver,
    )


def usable_cores() -> int:
    """Logical cores this process may run on; whole ones, where a container's limit has a rest.

    One thread more than the limit allows would have all of them stopped again and again.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, max(1, int(cgroup.cores() or cores)))


def threads() -> int:
    """Threads every CPU backend gets: ``OMP_NUM_THREADS`` where set, else the usable cores.

    Of a list, which OpenMP allows for nested levels, the first counts. ``UsageError`` for what is
    no number of threads: each runtime would take another number for it.
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if not wanted.strip():
        return usable_cores()
    first = wanted.partition(",")[0].strip()
    if not (first.isascii() and first.isdecimal() and int(first) > 0):
        raise UsageError(
            f"OMP_NUM_THREADS is {wanted!r}, which is no number of threads",
            "set it to 1 or more, or unset it for all cores",
        )
    return int(first)


def now() -> str:
    """The time in UTC, ISO 8601, whole seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


@cache
def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _cpu_name() -> str:
    known = _cpuinfo()
    arm = [f"{key} {known[key]}" for key in ("CPU implementer", "CPU part") if key in known]
    name = known.get("model name") or ", ".join(arm)
    return name or platform.processor() or platform.machine()


def _cpu_flags() -> tuple[str, ...]:
    rows = ((flags, _cpuinfo().get(row, "").split()) for row, flags in _CPU_FLAGS.items())
    return tuple(flag for flags, has in rows for flag in flags if flag in has)


def vector_flags() -> tuple[str, ...]:
    """What code that was compiled for this very processor may need; empty where not known."""
    rows = ((vectors, _cpuinfo().get(row, "").split()) for row, vectors in _VECTORS.items())
    return tuple(flag for vectors, has in rows for flag in sorted(filter(vectors.match, has)))


def _memory_bytes() -> int:
    try:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
    return min(present, cgroup.memory() or present)


def _nvidia() -> tuple[str | None, str | None]:
    """GPU name and driver version as the driver's own tool reports them; (None, None) without."""
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    visible = _first_visible()
    for more in (visible, []) if visible else ([],):  # a name that only CUDA knows: the first
        try:
            done = subprocess.run(
                [*command, *more], capture_output=True, text=True, timeout=20, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if first := done.stdout.strip().splitlines()[:1]:
            name, _, driver = first[0].partition(",")
            return name.strip(), driver.strip()
    return None, None


def _first_visible() -> list[str]:
    """How to ask for the first GPU that CUDA shows, where the driver's tool counts alike."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    by_bus = os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"  # CUDA's own order: fastest first
    counted = first.isdecimal() and by_bus
    return ["-i", first] if counted or first.startswith("GPU-") else []
