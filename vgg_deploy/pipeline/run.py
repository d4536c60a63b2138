"""The main job: train, export, build, verify, bench, report, each kept when it is still valid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from vgg_deploy.artifact import Precision
from vgg_deploy.bundle import Bundle
from vgg_deploy.data.fashion_mnist import find_fashion_mnist
from vgg_deploy.environment import now
from vgg_deploy.errors import VggDeployError, unknown_choice
from vgg_deploy.export.baked import EmbeddedOptions
from vgg_deploy.files import refuse_linked, shown, write_text
from vgg_deploy.manifest import has_manifest
from vgg_deploy.pipeline.bench import BenchOptions, bench_bundle, bench_error
from vgg_deploy.pipeline.build import build_here
from vgg_deploy.pipeline.export import embed_preprocessing, export_bundle
from vgg_deploy.pipeline.request import TrainRequest
from vgg_deploy.pipeline.stages import Recorder
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.pipeline.verify import VerifyOptions, verdict_error, verify_bundle
from vgg_deploy.pipeline.watch import Silent, Watcher
from vgg_deploy.report.html import REPORT_FILE, write_report
from vgg_deploy.results import BenchReport, VerifyReport
from vgg_deploy.train.options import RunControl, TrainOptions
from vgg_deploy.train.outcome import MAIN_JOB

_Report = TypeVar("_Report")
_TOO_FEW = "judged by accuracy, and on the sample's 1,000 test images a point is noise"
LOG_FILE = "results/run.log"  # relative to the bundle: the tree of stages as text


@dataclass(frozen=True, kw_only=True)
class Preset:
    """All options of one main job."""

    folder: Path
    train: TrainRequest
    on_sample: TrainOptions | None = None  # instead, where the full data is not on the machine
    precisions: tuple[Precision, ...] = ()  # of ONNX, beside fp32
    embedded: bool = False  # also the ONNX file with its preprocessing inside
    engines: tuple[Precision, ...] = ("fp32",)
    verify: VerifyOptions = field(default_factory=VerifyOptions)
    bench: BenchOptions = field(default_factory=BenchOptions)


PRESETS: Mapping[str, Preset] = {
    # full data where it is on the machine, else the sample: nothing is downloaded
    "fashion-mnist": Preset(
        folder=Path("artifacts/fmnist"),
        train=TrainRequest(options=TrainOptions(epochs=3)),
        on_sample=TrainOptions(epochs=8),  # of 39 steps
        precisions=("int8",),
        embedded=True,
        engines=("fp32", "int8"),
    ),
    # seconds instead of minutes; for trying things out
    "quick": Preset(
        folder=Path("artifacts/quick"),
        train=TrainRequest(
            arch="1x8-1x16-2x32",
            width=1.0,
            size=32,
            fc_width=64,
            data="sample",
            options=TrainOptions(epochs=2),
        ),
        bench=BenchOptions(seconds=0.3),
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What one main job ended with."""

    bundle: Bundle
    verified: VerifyReport
    timed: BenchReport | None  # None: not timed, because not equivalent
    page: Path


def run_preset(name: str, out: Path | None = None, watch: Watcher | None = None) -> Outcome:
    """Run every stage of a preset; what is not equivalent is not timed.

    The report is written in either case; the caller turns ``verified`` and ``timed`` into an
    exit code.
    """
    if name not in PRESETS:
        raise unknown_choice("preset", name, PRESETS)
    preset = PRESETS[name]
    folder = out or preset.folder
    recorder = Recorder(watch or Silent())
    try:
        outcome = _run(preset, folder, recorder)
    except BaseException:
        with suppress(VggDeployError):  # a full disk, of which the error itself may speak
            _log(folder, recorder)
        raise
    _log(folder, recorder)
    return outcome


def _log(folder: Path, recorder: Recorder) -> None:
    trained = any(s.state == "done" for s in recorder.stages)
    if trained and has_manifest(folder):  # not for a folder of others
        refuse_linked((folder / LOG_FILE).parent)
        write_text(folder / LOG_FILE, shown(f"vgg-deploy run, {now()}\n{recorder.text()}\n"))


def _run(preset: Preset, folder: Path, watch: Watcher) -> Outcome:
    with watch.stage("train"):
        bundle = train_bundle(
            folder,
            _request(preset),
            watch,
            replace=True,
            reuse=True,
            control=RunControl(resume="may"),
            maker=MAIN_JOB,
        )
    with watch.stage("export"):
        bundle = _exported(bundle, preset, watch)
    with watch.stage("build"):
        made = {a.precision for a in bundle.artifacts if a.format == "onnx"}
        bundle = build_here(bundle, [p for p in preset.engines if p in made], watch)
    verified = _judged(
        watch, "verify", lambda: verify_bundle(bundle, preset.verify, watch, reuse=True),
        verdict_error,
    )  # fmt: skip
    timed = None
    if verdict_error(verified) is None:
        timed = _judged(
            watch, "bench", lambda: bench_bundle(bundle, preset.bench, watch, reuse=True),
            bench_error,
        )  # fmt: skip
    with watch.stage("report"):
        watch.begin("check the files", len(bundle.artifacts), "files")
        page = write_report(bundle, bundle.root / REPORT_FILE, hashed=watch.advance)
        watch.say(f"report: {page}")
    return Outcome(bundle, verified, timed, page)


def _judged(
    watch: Watcher,
    name: str,
    measure: Callable[[], _Report],
    error_of: Callable[[_Report], VggDeployError | None],
) -> _Report:
    """A stage that gives its report even where the report stands for an error: that one failed."""
    made: list[_Report] = []
    try:
        with watch.stage(name):
            made.append(measure())
            if error := error_of(made[0]):
                raise error
    except VggDeployError:
        if not made:
            raise
    return made[0]


def _request(preset: Preset) -> TrainRequest:
    """What is trained: on the sample, where that is all there is, with options of its own."""
    if preset.on_sample is None or preset.train.data != "auto" or find_fashion_mnist() is not None:
        return preset.train
    return replace(preset.train, data="sample", options=preset.on_sample)


def _exported(bundle: Bundle, preset: Preset, watch: Watcher) -> Bundle:
    """Every format that can be made here, and what the preset adds."""
    bundle, _, _ = export_bundle(bundle, (), watch)
    if preset.precisions and bundle.card.dataset == "sample":
        watch.say(f"skipped: {', '.join(preset.precisions)}: {_TOO_FEW}")
    elif preset.precisions:
        bundle, _, _ = export_bundle(bundle, ("onnx",), watch, precisions=preset.precisions)
    if preset.embedded:
        bundle, _ = embed_preprocessing(bundle, EmbeddedOptions(), watch)
    return bundle


def require_good(outcome: Outcome) -> None:
    """Raise what a failed verdict or a failed measurement stands for."""
    error = verdict_error(outcome.verified)
    if error is None and outcome.timed is not None:
        error = bench_error(outcome.timed)
    if error is not None:
        raise error
