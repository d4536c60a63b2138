"""int8 on the CPU: how much faster than torch in fp32, and what it costs in accuracy.

    python scripts/bench_int8.py --trained artifacts/fmnist -o docs/results/int8_cpu.json

Speed: VGG-16 at 224 px with seeded random weights, batch 1, in one process: torch eager fp32, and
the fp32 and int8 files in ONNX Runtime and OpenVINO, in blocks of random order. Accuracy: a trained
bundle's int8 file, calibrated on training images, on all images of the test split.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from vgg_deploy import environment, jsonio
from vgg_deploy.artifact import Precision
from vgg_deploy.backends import get_backend
from vgg_deploy.bench.clock import HostStopwatch
from vgg_deploy.bench.contest import Contender, ContestOptions, contest
from vgg_deploy.bench.paired import Ratio, ratios
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.errors import RefusedInput, VggDeployError
from vgg_deploy.pipeline.benchinput import make_input
from vgg_deploy.pipeline.export import export_bundle
from vgg_deploy.pipeline.images import images_for
from vgg_deploy.pipeline.machine_weights import make
from vgg_deploy.precision import CalibrationOptions
from vgg_deploy.results import Contest, Subject
from vgg_deploy.verify.accuracy import answers

TORCH = ("torch", "checkpoint", "fp32")
RUNTIMES = ("ort-cpu", "openvino")


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Right answers of one file in one backend."""

    backend: str
    precision: Precision
    correct: int
    total: int
    drop: float  # points of top-1 below torch eager in fp32


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was measured, and where."""

    made_at: str
    environment: environment.Environment
    speed: Contest | None  # the first contender is torch eager in fp32
    ratios: tuple[Ratio, ...]  # latency over torch's, in the order of the other contenders
    accuracy: tuple[Hits, ...]
    calibration: dict[str, str]  # of the trained bundle's int8 file
    dataset: str


def main(words: list[str] | None = None) -> int:
    """Measure, write, say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--trained", type=Path, help="bundle whose accuracy is counted")
    parser.add_argument("--speed-bundle", type=Path, help="instead of VGG-16 at 224 px")
    parser.add_argument("--work", type=Path, default=Path("artifacts/int8/vgg16"))
    parser.add_argument("--blocks", type=int, default=20)
    parser.add_argument("--no-speed", action="store_true", help="keep what the file holds of it")
    given = parser.parse_args(words)
    try:
        report = _begun(given.out)
        if not given.no_speed:
            timed = speed(given.speed_bundle or given.work, given.blocks, not given.speed_bundle)
            report = replace(report, speed=timed, ratios=ratios(timed))
            jsonio.save(given.out, report)
        if given.trained:
            hits, calibration, dataset = accuracy(given.trained)
            report = replace(report, accuracy=hits, calibration=calibration, dataset=dataset)
            jsonio.save(given.out, report)
    except VggDeployError as error:
        print(f"bench_int8: error: {error.cause}\n  remedy: {error.remedy}", file=sys.stderr)
        return error.exit_code
    say(report)
    return 0


def _begun(path: Path) -> Report:
    """What the file holds of this machine, to be completed; else an empty report."""
    here = environment.capture()
    fresh = Report(
        made_at=environment.now(),
        environment=here,
        speed=None,
        ratios=(),
        accuracy=(),
        calibration={},
        dataset="",
    )
    earlier = jsonio.load(Report, path) if path.exists() else fresh
    return earlier if earlier.environment == here else fresh


def speed(folder: Path, blocks: int, fresh: bool) -> Contest:
    """Torch eager beside both runtimes in fp32 and int8, batch 1."""
    if fresh:
        make("vgg16", folder, "cpu", random=True)
    bundle, _, _ = export_bundle(
        open_bundle(folder),
        precisions=("fp32", "int8"),
        calibration=CalibrationOptions(data="sample", images=16),
    )
    wanted = [TORCH, *((name, "onnx", p) for name in RUNTIMES for p in ("fp32", "int8"))]
    with ExitStack() as stack:
        contenders = [_contender(stack, bundle, *cell) for cell in wanted]  # type: ignore[arg-type]
        options = ContestOptions(blocks=blocks, turn_seconds=0.3)
        return contest(contenders, make_input(bundle, 1), options)


def _contender(
    stack: ExitStack, bundle: Bundle, name: str, format: str, precision: Precision
) -> Contender:
    backend = get_backend(name)
    artifact = next(a for a in bundle.artifacts if (a.format, a.precision) == (format, precision))
    session = stack.enter_context(backend.open(artifact, bundle.root))
    subject = Subject(
        artifact=str(artifact.path),
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        format=artifact.format,
        precision=precision,
        backend=name,
        device="cpu",
    )
    return Contender(subject, session, HostStopwatch())


def accuracy(folder: Path) -> tuple[tuple[Hits, ...], dict[str, str], str]:
    """Top-1 on the whole test split: torch eager, then fp32 and int8 in both runtimes."""
    bundle, _, _ = export_bundle(open_bundle(folder), precisions=("fp32", "int8"))
    images = images_for(bundle.card)
    if images.no_accuracy:
        raise RefusedInput(images.no_accuracy, "give a bundle that train made")
    wanted = [TORCH, *((name, "onnx", p) for name in RUNTIMES for p in ("fp32", "int8"))]
    found: list[Hits] = []
    for name, format, precision in wanted:
        artifact = next(
            a for a in bundle.artifacts if (a.format, a.precision) == (format, precision)
        )
        with get_backend(name).open(artifact, bundle.root) as session:
            test = images.dataset.test
            first = answers(
                session, test.images, test.labels, bundle.card.preprocessing, artifact.input
            ).first
        hits = Hits(
            backend=name,
            precision=artifact.precision,
            correct=int((first == test.labels).sum()),
            total=len(test),
            drop=0.0,
        )
        drop = 100 * ((found[0].correct if found else hits.correct) - hits.correct) / hits.total
        found.append(replace(hits, drop=round(drop, 4)))
    int8 = bundle.find("onnx", "int8")
    assert int8 is not None
    return tuple(found), dict(int8.made_by), images.source


def say(report: Report) -> None:
    """The two tables."""
    if report.speed:
        others = report.speed.subjects[1:]
        for subject, ratio in zip(others, report.ratios, strict=True):
            fast = f"{1 / ratio.ratio:.2f}× ({1 / ratio.high:.2f} to {1 / ratio.low:.2f})"
            print(f"{subject.backend:9} {subject.precision:5} {fast} as fast as torch eager fp32")
        print(*report.speed.marks, sep="\n")
    for hits in report.accuracy:
        share = 100 * hits.correct / hits.total
        print(f"{hits.backend:9} {hits.precision:5} {share:.2f} % top-1, drop {hits.drop:+.2f}")


if __name__ == "__main__":
    sys.exit(main())
