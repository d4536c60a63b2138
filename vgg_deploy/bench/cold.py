"""Cold start in a process of its own: import, load, first inference, peak memory.

The child is told its backend as ``module:function`` plus a name, because this package knows
backends only by their protocol; whoever calls ``cold_start`` knows the table.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from vgg_deploy import jsonio
from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Array, example_shape
from vgg_deploy.errors import VggDeployError
from vgg_deploy.process import end_with_parent, module_command, run_group

TIMEOUT_S = 300


@dataclass(frozen=True, kw_only=True)
class ColdStart:
    """What a fresh process needed, in seconds and bytes; ``error`` when it broke.

    ``late``: it was ended after its time, which says nothing of a file that is slow to start.
    """

    import_s: float | None = None
    load_s: float | None = None
    first_s: float | None = None
    peak_memory_bytes: int | None = None
    error: str = ""
    late: bool = False


def cold_start(
    factory: str,
    backend: str,
    artifact: Artifact,
    root: Path,
    batch: Array,
    *,
    timeout_s: float = TIMEOUT_S,
) -> ColdStart:
    """Open ``artifact`` and run one batch of ``batch``'s shape in a new process.

    Never raises for what happens there and never hangs: a crash or ``timeout_s`` becomes
    ``error``.
    """
    command = module_command(__name__, factory, backend, str(root), str(batch.shape[0]))
    try:
        done = run_group(command, timeout_s, given=jsonio.dumps(artifact, indent=None))
    except subprocess.TimeoutExpired:
        return ColdStart(error=f"cold start took longer than {timeout_s:g} s", late=True)
    try:
        return ColdStart(**json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        last = lines[-1] if lines else "nothing was said"
        return ColdStart(error=f"cold start ended with {done.returncode}: {last}")


def _child(factory: str, name: str, root: str, size: str) -> ColdStart:
    import numpy as np

    module, _, function = factory.partition(":")
    artifact = jsonio.loads(Artifact, sys.stdin.read(), source="standard input")
    backend = getattr(importlib.import_module(module), function)(name)
    shape = example_shape(artifact.input, int(size))
    low, high = artifact.input.value_range or (0.0, 1.0)
    batch = np.random.default_rng(0).uniform(low, high, shape).astype(artifact.input.dtype)
    start = time.perf_counter()
    if missing := backend.probe():  # imports the runtime
        return ColdStart(error=f"{missing.reason}; {missing.remedy}")
    imported = time.perf_counter()
    with backend.open(artifact, Path(root)) as session:
        loaded = time.perf_counter()
        session(batch)
        first = time.perf_counter()
    return ColdStart(
        import_s=imported - start,
        load_s=loaded - imported,
        first_s=first - loaded,
        peak_memory_bytes=_peak_memory(),
    )


def _peak_memory() -> int | None:
    """Largest resident set of this process since it was started.

    Linux counts ``ru_maxrss`` from before ``exec``: it holds the parent's peak, ``VmHWM`` does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024  # KiB
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


def _main() -> None:
    """One line of JSON; a refusal is a result, too."""
    try:
        found = _child(*sys.argv[1:])
    except VggDeployError as error:
        found = ColdStart(error=f"{error.cause}; {error.remedy}")
    print(json.dumps(asdict(found)))  # noqa: T201


if __name__ == "__main__":
    end_with_parent()
    _main()
