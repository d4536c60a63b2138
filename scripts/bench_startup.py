"""How long ``vgg-deploy --help`` takes, in fresh processes, and what it imports.

    python scripts/bench_startup.py -o docs/results/startup.json

Beside it, in alternation, the bare interpreter (``python -c pass``): what no program can avoid.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median

from vgg_deploy import environment
from vgg_deploy.files import write_text

LIMIT_S = 0.4
_HELP = "import sys; from vgg_deploy.cli import main; main(['--help'])"
_HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "openvino", "matplotlib", "tensorrt")
_SEEN = f"{_HELP}; print([m for m in {_HEAVY} if m in sys.modules], file=sys.stderr)"


def main() -> None:
    """Parse, run the processes, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    result = measure(options.repeats)
    if options.output:
        write_text(options.output, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["summary"], indent=2))


def measure(repeats: int) -> dict[str, object]:
    """Raw seconds of both commands, in the order they were taken, and their medians."""
    _seconds(_HELP)  # writes the bytecode, as any first use does
    samples: dict[str, list[float]] = {"help": [], "bare_python": []}
    for _ in range(repeats):
        samples["help"].append(_seconds(_HELP))
        samples["bare_python"].append(_seconds("pass"))
    middle = {name: round(median(values), 4) for name, values in samples.items()}
    heavy = _run(_SEEN).stderr.strip()
    return {
        "made_by": "scripts/bench_startup.py",
        "made_at": environment.now(),
        "environment": asdict(environment.capture()),
        "samples_s": samples,
        "summary": {
            "median_s": middle,
            "limit_s": LIMIT_S,
            "within_limit": middle["help"] < LIMIT_S,
            "heavy_modules_imported": heavy,
        },
    }


def _seconds(code: str) -> float:
    start = time.perf_counter()
    _run(code)
    return time.perf_counter() - start


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


if __name__ == "__main__":
    main()
