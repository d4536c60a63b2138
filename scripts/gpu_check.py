"""One command on a GPU machine: every backend × precision × batch, verified and timed.

    python scripts/gpu_check.py -o docs/results/gpu_check.json
    python scripts/gpu_check.py --trt-python /opt/trt86/bin/python -o check.json
    python scripts/gpu_check.py --device cpu --network tiny --batch 1 --seconds 0.2 -o check.json

Stopped, it goes on where it was when called again with the same file; ``--again`` also repeats what
ended with an answer that is not in order, and ``--total-seconds`` stops by itself. The steps are in
``vgg_deploy.pipeline.machine_steps``.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where nothing is installed

from vgg_deploy import environment, jsonio
from vgg_deploy.bundle import open_bundle
from vgg_deploy.cli.console import show as show_table
from vgg_deploy.cli.console import watching
from vgg_deploy.errors import EXIT_INTERRUPTED, UsageError, VggDeployError
from vgg_deploy.pipeline.machine import Report, check, merged
from vgg_deploy.pipeline.machine_found import unusable_backends
from vgg_deploy.pipeline.machine_steps import (
    NETWORKS,
    PRECISIONS,
    Options,
    bundle_of,
    in_order,
)
from vgg_deploy.report.bench_tables import bench_table
from vgg_deploy.report.engine_tables import computed_in
from vgg_deploy.report.limit_tables import ceilings_table
from vgg_deploy.report.tables import verify_table
from vgg_deploy.results import BenchReport, VerifyReport
from vgg_deploy.spec import ModelSpec
from vgg_deploy.trt.layers import EngineNotes
from vgg_deploy.verify.inputs import MIN_REAL


def main(words: Sequence[str] | None = None) -> int:
    """Run or go on; prints the table; 0 when every step ended well."""
    try:
        given = _given(words)
        options = _options(given)
        with watching() as watch:
            report = check(
                given.out, options, watch, again=given.again, total_seconds=given.total_seconds
            )
        show(report, options)
    except VggDeployError as error:
        print(f"gpu_check: error: {error.cause}\n  remedy: {error.remedy}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("gpu_check: stopped; call again with the same file to go on", file=sys.stderr)
        return EXIT_INTERRUPTED
    bad = [done for done in report.done if done.code]
    for done in bad:
        words = " ".join(done.step.words)
        print(f"exit {done.code}: {done.step.kind}: {words}: {done.said}", file=sys.stderr)
    absent = unusable_backends(report.options, report.done)
    for name, reason in absent.items():
        print(f"{name} was asked for and did not run: {reason}", file=sys.stderr)
    if report.not_started:
        print(
            f"partial: {report.not_started} steps were not started within "
            f"{given.total_seconds:g} s; call again with the same file to go on",
            file=sys.stderr,
        )
    return 1 if bad or absent or report.not_started else 0


def _given(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True, help="JSON, written step by step")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--precision", action="append", choices=PRECISIONS)
    parser.add_argument("--batch", action="append", type=int, help="1 and 64 are run first")
    parser.add_argument("--backend", action="append", help="only this one; may be repeated")
    parser.add_argument("--seconds", type=float, default=Options.seconds, help="per cell")
    parser.add_argument("--images", type=int, default=Options.images, help="verified with")
    parser.add_argument("--step-seconds", type=float, default=Options.step_seconds,
                        help="after which a step is ended; what it had measured stays")  # fmt: skip
    parser.add_argument("--build-seconds", type=float, default=Options.build_seconds,
                        help="the same for a step that builds an engine or compiles")  # fmt: skip
    parser.add_argument("--work", default=Options.work, help="folder of the bundles")
    parser.add_argument("--random-weights", action="store_true",
                        help="train nothing: for a machine that is lent for minutes")  # fmt: skip
    parser.add_argument("--optimization-level", type=int, choices=range(6),
                        help="of engines: 0 builds fast, 5 runs fast")  # fmt: skip
    parser.add_argument("--trt-python", default=sys.executable, help="the Python with TensorRT")
    parser.add_argument(
        "--total-seconds", type=float, default=math.inf, help="start no step after these"
    )
    parser.add_argument(
        "--again", action="store_true", help="repeat what ended with exit 7, 8 or another error"
    )
    return parser.parse_args(words)


def _options(given: argparse.Namespace) -> Options:
    """What the words ask for; ``UsageError`` for a size or a time that is none."""
    device = given.device
    if device == "auto":
        device = "cuda" if environment.capture().gpu else "cpu"
    chosen = Options(
        device=device,
        networks=tuple(given.network or Options.networks),
        precisions=tuple(given.precision or Options.precisions),
        batches=in_order(given.batch or Options.batches),
        backends=tuple(given.backend or ()),
        seconds=given.seconds,
        images=given.images,
        step_seconds=given.step_seconds,
        build_seconds=given.build_seconds,
        work=given.work,
        random_weights=given.random_weights,
        optimization_level=given.optimization_level,
        trt_python=given.trt_python,
    )
    times = (chosen.seconds, chosen.step_seconds, chosen.build_seconds, given.total_seconds)
    if min(chosen.batches) < 1 or min(times) <= 0:
        raise UsageError("a batch below 1 or no time", "give positive numbers")
    if chosen.images < MIN_REAL:  # every verify would be refused, minutes later
        raise UsageError(
            f"{chosen.images} images prove nothing", f"give --images {MIN_REAL} or more"
        )
    return chosen


def show(report: Report, options: Options) -> None:
    """Verdicts and timings per network, engines with the precision each one really has."""
    for network in report.options.networks:
        print(f"\n## {network}")
        for one in merged(report, network, VerifyReport, "verify", "golden"):
            show_table(verify_table(one))
        for two in merged(report, network, BenchReport, "bench"):
            spec = _spec(options, network)
            show_table(bench_table(two, spec=spec), *ceilings_table(two))
    for done in report.done:
        for engine in (done.answer or {}).get("engines", ()) if done.step.kind == "build" else ():
            print(f"{done.step.network}: {engine_line(engine)}")


def _spec(options: Options, network: str) -> ModelSpec | None:
    """The network's spec; None where its bundle was made on a disk that is gone."""
    try:
        return open_bundle(Path(bundle_of(options, network))).card.spec
    except VggDeployError:
        return None


def engine_line(engine: dict[str, Any]) -> str:
    """Build time, size and in what its products are computed, as TensorRT itself reports it."""
    if not engine.get("engine"):
        return f"{engine['precision']} was not built: {engine['reason']}"
    name, size = engine["engine"]["path"], engine["engine"]["size_bytes"] / 1e6
    notes = jsonio.loads(EngineNotes, json.dumps(engine["notes"]), source=f"the notes of {name}")
    told = f"products in {computed_in(notes)} ({notes.source})"
    return f"{name}: {notes.seconds:.1f} s, {size:.1f} MB; {told}"


if __name__ == "__main__":
    # what ends this ends its step, too, which is in another process group
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
