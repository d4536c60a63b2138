"""Plant every fault of tests/faults, draw a hundred right exports, and store what verify said.

    python -m scripts.fault_report --out docs/results/faults.json

Takes about three minutes. The same faults and draws are tests; this keeps what they found.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults.bases import Bases
from tests.faults.catalogue import FAULTS, Fault, planted, verdicts
from tests.faults.clean import clean_bundle
from vgg_deploy.cli import main as command
from vgg_deploy.environment import capture, now
from vgg_deploy.files import write_text
from vgg_deploy.results import VERIFY_FILE, VerifyReport
from vgg_deploy.stored import load as load_report


def main() -> int:
    """Run all and write the JSON; exit 1 when a fault was missed or a right export refused."""
    parser = argparse.ArgumentParser(description="Planted faults found, right exports passed.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=100)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bases = Bases(Path(folder) / "bases")
        faults = [
            _found(fault, bases, Path(folder) / f"fault{i}")
            for i, fault in enumerate(FAULTS.values())
        ]
    draws = [_drawn(seed) for seed in range(args.draws)]
    missed = [f["fault"] for f in faults if not f["found"]]
    wrong = [d["seed"] for d in draws if d["exit_code"] != 0]
    groups = Counter(f["group"] for f in faults)
    stored = {
        "made_at": now(),
        "environment": asdict(capture()),
        "faults": len(faults),
        "found": len(faults) - len(missed),
        "missed": missed,
        "by_group": dict(groups),
        "right_exports": len(draws),
        "passed": len(draws) - len(wrong),
        "refused": wrong,
        "nearest_to_a_limit": max((d["used"] for d in draws), default=None),
        "details": faults,
        "draws": draws,
    }
    write_text(args.out, json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
    print(f"faults found: {stored['found']} of {len(faults)}; missed: {missed}")
    print(f"right exports passed: {stored['passed']} of {len(draws)}; refused: {wrong}")
    return 1 if missed or wrong else 0


def _found(fault: Fault, bases: Bases, root: Path) -> dict[str, Any]:
    bundle = bases.copy(fault.base, root)
    with planted(fault, bundle) as words:
        code, said = _quietly(words)
    found = code == fault.code  # a file that does not open is exit 7, too
    if code == 7:
        found = found and verdicts(bundle.root) == {fault.verdict}
    return {
        "fault": fault.name,
        "group": fault.group,
        "network": fault.base,
        "expected": fault.code,
        "exit_code": code,
        "found": found,
        "rel_l2": _worst_error(bundle.root / VERIFY_FILE) if code == 7 else None,
        "said": said.replace(str(root), "BUNDLE"),
    }


def _worst_error(path: Path) -> float | None:
    """The largest relative L2 of a row that differs; None where nothing could be compared."""
    rows = load_report(VerifyReport, path).rows
    figures = [row.figure("rel_l2") for row in rows if row.verdict == "different"]
    return max((f.value for f in figures if f and f.value is not None), default=None)


def _drawn(seed: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        bundle, words = clean_bundle(seed, Path(folder) / "bundle")
        code, said = _quietly(words)
        spec = bundle.card.spec
        used = 0.0
        if code == 0:
            (row,) = load_report(VerifyReport, bundle.root / VERIFY_FILE).rows
            shares = [f.value / f.limit for f in row.figures if f.limit and f.value is not None]
            used = max(shares)
        return {
            "seed": seed,
            "conv_arch": spec.conv_arch,
            "size": spec.size,
            "way": words[words.index("-b") + 1],
            "exit_code": code,
            "used": round(used, 4),
            "said": said if code else "",
        }


def _quietly(words: list[str]) -> tuple[int, str]:
    """Exit code, and the first line of what the command had to say against it."""
    err = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        code = command(words)
    lines = err.getvalue().splitlines()
    remedy = next((line for line in lines if line.startswith("  remedy:")), "")
    cause = next((line for line in lines if line.startswith("vgg-deploy: error:")), "")
    said = remedy.partition("first: ")[2] if code == 7 else ""
    return code, said or cause.removeprefix("vgg-deploy: error: ")


if __name__ == "__main__":
    sys.exit(main())
