"""One command on a GPU machine: every backend × precision × batch, verified and timed.

    python scripts/gpu_check.py -o docs/results/gpu_check.json
    python scripts/gpu_check.py --trt-python /opt/trt86/bin/python -o check.json
    python scripts/gpu_check.py --device cpu --network tiny --batch 1 --seconds 0.2 -o check.json

Stopped, it goes on where it was when called again with the same file. The steps are in
``vgg_deploy.pipeline.machine``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vgg_deploy import environment, jsonio
from vgg_deploy.bundle import open_bundle
from vgg_deploy.cli.console import show as show_table
from vgg_deploy.cli.console import watching
from vgg_deploy.errors import UsageError, VggDeployError
from vgg_deploy.pipeline.machine import PRECISIONS, TRAINED, Options, Report, check, merged
from vgg_deploy.report.bench_tables import bench_table
from vgg_deploy.report.limit_tables import ceilings_table
from vgg_deploy.report.tables import verify_table
from vgg_deploy.results import BenchReport, VerifyReport
from vgg_deploy.trt.layers import EngineNotes


def main(words: Sequence[str] | None = None) -> int:
    """Run or go on; prints the table; 0 when every step ended well."""
    try:
        path, options = _parsed(words)
        with watching() as watch:
            report = check(path, options, watch)
    except VggDeployError as error:
        print(f"gpu_check: error: {error.cause}\n  remedy: {error.remedy}", file=sys.stderr)
        return error.exit_code
    show(report)
    bad = [done for done in report.done if done.code]
    for done in bad:
        print(f"exit {done.code}: {' '.join(done.step.words)}: {done.said}", file=sys.stderr)
    return 1 if bad else 0


def _parsed(words: Sequence[str] | None) -> tuple[Path, Options]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON, written step by step")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--network", action="append", choices=sorted(TRAINED))
    parser.add_argument("--precision", action="append", choices=PRECISIONS)
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--backend", action="append", help="only this one; may be repeated")
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="per cell")
    parser.add_argument("--images", type=int, default=Options.images, help="verified with")
    parser.add_argument("--step-seconds", type=float, default=Options.step_seconds)
    parser.add_argument("--work", default=Options.work, help="folder of the bundles")
    parser.add_argument("--trt-python", default=sys.executable, help="the Python with TensorRT")
    given = parser.parse_args(words)
    device = given.device
    if device == "auto":
        device = "cuda" if environment.capture().gpu else "cpu"
    chosen = Options(
        device=device,
        networks=tuple(given.network or Options.networks),
        precisions=tuple(given.precision or Options.precisions),
        batches=tuple(sorted(set(given.batch or Options.batches))),
        backends=tuple(given.backend or ()),
        seconds=given.seconds,
        images=given.images,
        step_seconds=given.step_seconds,
        work=given.work,
        trt_python=given.trt_python,
    )
    if min(chosen.batches) < 1 or chosen.seconds <= 0:
        raise UsageError("a batch or a time below 1", "give positive numbers")
    return given.out, chosen


def show(report: Report) -> None:
    """Verdicts and timings per network, engines with the precision each one really has."""
    for network in report.options.networks:
        print(f"\n## {network}")
        for one in merged(report, network, VerifyReport, "verify"):
            show_table(verify_table(one))
        for two in merged(report, network, BenchReport, "bench"):
            spec = open_bundle(Path(report.options.work, network)).card.spec
            show_table(bench_table(two, spec=spec), *ceilings_table(two))
    for done in report.done:
        for engine in (done.answer or {}).get("engines", ()) if done.step.kind == "build" else ():
            print(f"{done.step.network}: {engine_line(engine)}")
        if done.step.kind == "golden":
            print(f"{done.step.network}: {done.step.words[0]} on golden vectors: {done.answer}")


def engine_line(engine: dict[str, Any]) -> str:
    """Build time, size and in what its products are computed, as TensorRT itself reports it."""
    if not engine.get("engine"):
        return f"{engine['precision']} was not built: {engine['reason']}"
    name, size = engine["engine"]["path"], engine["engine"]["size_bytes"] / 1e6
    notes = jsonio.loads(EngineNotes, json.dumps(engine["notes"]), source=f"the notes of {name}")
    kinds = sorted(notes.computed_in().items())
    told = ", ".join(f"{count} products in {kind}" for kind, count in kinds)
    return f"{name}: {notes.seconds:.1f} s, {size:.1f} MB; {told} ({notes.source})"


if __name__ == "__main__":
    sys.exit(main())
