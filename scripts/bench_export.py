"""What a checked ONNX file costs beside the bare ``torch.onnx.export`` call.

    python scripts/bench_export.py -o docs/results/export_cost.json

Each sample is a fresh process; the two kinds alternate. *bare* loads the weights and calls
``torch.onnx.export(dynamo=True, external_data=False)`` straight to a file. *ours* is
``vgg_deploy.export.export(bundle, "onnx")``: digest of the checkpoint, load, export, strip,
write, ``onnx.checker`` with ``full_check`` on the file, digest of the file, fsync, manifest.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median

from vgg_deploy import environment
from vgg_deploy.bundle import open_bundle
from vgg_deploy.files import write_text
from vgg_deploy.model.checkpoint import load_model
from vgg_deploy.pipeline.untrained import random_state, untrained_bundle, untrained_card
from vgg_deploy.spec import ModelSpec

WALL_LIMIT, MEMORY_LIMIT = 1.5, 1.3  # ours ÷ bare
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes in ru_maxrss


def main() -> None:
    """Parse, run the children, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--arch", default="vgg16")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", choices=sorted(_CHILDREN), help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_CHILDREN[options.child](options.root)))
        return
    result = measure(options.arch, options.repeats)
    text = json.dumps(result, indent=2)
    if options.output:
        write_text(options.output, text + "\n")
    print(json.dumps(result["summary"], indent=2))


def measure(arch: str, repeats: int) -> dict[str, object]:
    """Raw samples of both kinds, in the order they were taken, and their medians."""
    samples: dict[str, list[dict[str, float]]] = {"bare": [], "ours": []}
    with tempfile.TemporaryDirectory(prefix="bench-export-") as folder:
        root = Path(folder)
        _random_bundle(root, arch)
        for index in range(repeats):
            for kind in ("bare", "ours") if index % 2 == 0 else ("ours", "bare"):
                samples[kind].append(_run(kind, root))
                print(kind, samples[kind][-1], file=sys.stderr)
    return {
        "what": f"{arch} fp32, from bundle to checked ONNX, beside the bare torch.onnx.export",
        "weights": "random, torch.manual_seed(0)",
        "made_at": environment.now(),
        "environment": asdict(environment.capture()),
        "samples": samples,
        "summary": summarize(samples),
    }


def summarize(samples: Mapping[str, list[dict[str, float]]]) -> dict[str, float | bool]:
    """Medians and ratios; ``wall_ratio`` is the strict one: all of ours ÷ the bare call alone."""
    bare, ours = (
        {key: median(s[key] for s in samples[kind]) for key in samples[kind][0]}
        for kind in ("bare", "ours")
    )
    wall = ours["total_s"] / bare["call_s"]
    memory = ours["peak_rss_bytes"] / bare["peak_rss_bytes"]
    return {
        "bare_call_s": bare["call_s"],
        "bare_load_and_call_s": bare["total_s"],
        "ours_total_s": ours["total_s"],
        "wall_ratio": wall,
        "wall_ratio_with_load_in_both": ours["total_s"] / bare["total_s"],
        "process_wall_ratio": ours["process_s"] / bare["process_s"],
        "bare_peak_rss_bytes": bare["peak_rss_bytes"],
        "ours_peak_rss_bytes": ours["peak_rss_bytes"],
        "memory_ratio": memory,
        "wall_limit": WALL_LIMIT,
        "memory_limit": MEMORY_LIMIT,
        "holds": wall <= WALL_LIMIT and memory <= MEMORY_LIMIT,
    }


def _random_bundle(root: Path, arch: str) -> None:
    spec = ModelSpec.named(arch)
    state = random_state(spec, he_normal=False)
    untrained_bundle(root, untrained_card(spec), state, {"weights": "random, seed 0"})


def _run(kind: str, root: Path) -> dict[str, float]:
    """One fresh process; its output file is removed, so that each writes a new one."""
    command = [sys.executable, __file__, "--child", kind, "--root", str(root)]
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    process_s = time.perf_counter() - start
    for made in root.glob("*.onnx"):
        made.unlink()
    sample: dict[str, float] = json.loads(done.stdout)
    return sample | {"process_s": process_s}


def _bare(root: Path) -> dict[str, float]:
    import torch

    start = time.perf_counter()
    model = load_model(root / "checkpoint.safetensors")
    loaded = time.perf_counter()
    spec = model.spec
    torch.onnx.export(
        model,
        (torch.zeros(2, spec.channels, spec.size, spec.size),),
        root / "bare.onnx",
        dynamo=True,
        opset_version=18,
        external_data=False,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    end = time.perf_counter()
    return {"total_s": end - start, "call_s": end - loaded, "peak_rss_bytes": _peak()}


def _ours(root: Path) -> dict[str, float]:
    import torch  # noqa: F401  imported before the clock starts, as in the other child

    from vgg_deploy.export import export

    start = time.perf_counter()
    export(open_bundle(root), "onnx")
    return {"total_s": time.perf_counter() - start, "peak_rss_bytes": _peak()}


def _peak() -> int:
    """Largest resident set of this process in bytes, mapped files included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT


_CHILDREN: Mapping[str, Callable[[Path], dict[str, float]]] = {"bare": _bare, "ours": _ours}

if __name__ == "__main__":
    main()
