"""What bench times by default, what it stores, and how it tells the time left."""

from __future__ import annotations

import importlib
import shlex
from dataclasses import replace
from functools import partial

import pytest

from tests.heard import Heard
from vgg_deploy import stored
from vgg_deploy.artifact import Artifact, Target
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Backend
from vgg_deploy.backends.fake import FakeBackend
from vgg_deploy.bench.cold import cold_start
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.gates import parse_gates
from vgg_deploy.pipeline import bench
from vgg_deploy.pipeline.bench import BenchOptions, bench_bundle, bench_error
from vgg_deploy.pipeline.benchinput import not_taken
from vgg_deploy.pipeline.cells import Cell, Selection
from vgg_deploy.pipeline.diff import diff_runs
from vgg_deploy.pipeline.verified import NOT_VERIFIED, as_shown
from vgg_deploy.report.bench_tables import startup_table
from vgg_deploy.report.reproduce import _bench_options
from vgg_deploy.results import BENCH_FILE, BenchReport, Timing

QUICK = BenchOptions(seconds=0.02, ceilings=False, layers=False)


def engine_for(bundle: Bundle, *profiles: tuple[int, int, int]) -> Artifact:
    target = Target(flavour="tensorrt", version="10.0", compute_capability="9.0", batches=profiles)
    return replace(bundle.checkpoint, target=target)


def planted(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle, *profiles: tuple[int, int, int]
) -> None:
    """The fake backend with an engine of these profiles is all that there is."""
    cell = Cell(FakeBackend(), engine_for(bundle, *profiles), None)
    for name in ("FACTORY", "FACTORY_WITHOUT_GRAPH"):
        monkeypatch.setattr(bench, name, "vgg_deploy.backends.fake:get_fake")
    monkeypatch.setattr(bench, "plan", lambda *_: (cell,))


def test_a_usual_size_that_an_engine_does_not_take_is_no_error(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, tiny_bundle, (1, 2, 4))
    report = bench_bundle(tiny_bundle, QUICK)
    assert [(row.batch, row.status) for row in report.rows] == [(1, "measured"), (8, "skipped")]
    assert report.rows[1].reason == (
        "batch 8 is outside its profiles 1:2:4; name one inside: --batch 2"
    )
    assert bench_error(report) is None
    assert "--batch" not in _bench_options(report)  # else the repetition would fail
    again = bench_bundle(tiny_bundle, QUICK, reuse=True)
    assert again.made_at == report.made_at
    asked = bench_bundle(tiny_bundle, replace(QUICK, batches=(1, 8)))
    assert [row.status for row in asked.rows] == ["measured"] * 2  # the backend's word counts
    assert _bench_options(asked)[:4] == ["--batch", "1", "--batch", "8"]


def test_what_was_asked_is_stored(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    planted(monkeypatch, tiny_bundle)
    chosen = Selection(backends=("ort-cpu", "openvino"), formats=("onnx",), precisions=("fp32",))
    gates = parse_gates(["p99_ms>20"], bench.BENCH_FIGURES)
    options = replace(
        QUICK, selection=chosen, batches=(2, 1), percentile=50, cuda_graph=False, gates=gates
    )
    bench_bundle(tiny_bundle, options)
    kept = stored.load(BenchReport, tiny_bundle.root / BENCH_FILE)
    assert shlex.join(_bench_options(kept)) == (
        "--backend ort-cpu --backend openvino --format onnx --precision fp32 --batch 2 --batch 1 "
        "--seconds 0.02 --percentile 50 --no-cuda-graph --no-limits --fail-if 'p99_ms>20'"
    )


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("name", ["trt", "ort-cuda"])
def test_a_cold_start_opens_what_is_timed(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, name: str, graph: bool
) -> None:
    asked: list[tuple[Backend, Backend]] = []

    def seen(backend: Backend, *_args: object, factory: str, **_more: object) -> tuple[Timing, ...]:
        module, _, function = factory.partition(":")
        asked.append((backend, getattr(importlib.import_module(module), function)(name)))
        return ()

    cell = Cell(get_backend(name), tiny_bundle.checkpoint, None)
    monkeypatch.setattr(bench, "plan", lambda *_: (cell,))
    monkeypatch.setattr(bench, "bench_cell", seen)
    bench_bundle(tiny_bundle, replace(QUICK, batches=(1,), cuda_graph=graph))
    ((timed, cold),) = asked
    assert cold == timed
    assert getattr(timed, "cuda_graph") is graph  # noqa: B009


def test_of_older_results_the_rows_tell_what_was_asked(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, tiny_bundle)
    report = bench_bundle(tiny_bundle, replace(QUICK, batches=(1,)))
    older = replace(report, options={"seconds": "0.02", "percentile": "90"})
    assert _bench_options(older) == _bench_options(report)


def test_an_engine_that_takes_no_usual_size_says_which_it_takes(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, tiny_bundle, (16, 16, 16))
    error = bench_error(bench_bundle(tiny_bundle, QUICK))
    assert isinstance(error, BackendNotAvailable)
    assert "outside its profiles 16:16:16; name one inside: --batch 16" in error.cause


def test_what_a_file_takes(tiny_bundle: Bundle) -> None:
    artifact = tiny_bundle.checkpoint
    assert not_taken(artifact, 1000) == ""
    several = engine_for(tiny_bundle, (1, 1, 1), (8, 16, 32))
    assert [size for size in (1, 2, 8, 32, 33) if not not_taken(several, size)] == [1, 8, 32]
    fixed = replace(artifact, input=replace(artifact.input, shape=(4, *artifact.input.shape[1:])))
    assert [size for size in (1, 4) if not not_taken(fixed, size)] == [4]


def test_verdicts_are_shown_and_not_stored(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, tiny_bundle)
    shown = bench_bundle(tiny_bundle, replace(QUICK, batches=(1,)))
    assert shown.rows[0].marks[0] == NOT_VERIFIED
    kept = stored.load(BenchReport, tiny_bundle.root / BENCH_FILE)
    assert NOT_VERIFIED not in kept.rows[0].marks
    assert as_shown(tiny_bundle.root, kept) == as_shown(tiny_bundle.root, shown) == shown
    (row,) = diff_runs(tiny_bundle.root, tiny_bundle.root).rows
    assert NOT_VERIFIED in row.reason
    (row,) = diff_runs(*[tiny_bundle.root / BENCH_FILE] * 2).rows
    assert NOT_VERIFIED not in row.reason


def test_start_up_figures_that_are_missing_are_said(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(monkeypatch, tiny_bundle)
    late = partial(cold_start, timeout_s=0.01)
    monkeypatch.setattr("vgg_deploy.bench.cell.cold_start", late)
    watch = Heard()
    report = bench_bundle(tiny_bundle, replace(QUICK, batches=(1,)), watch)
    why = "no start-up figures: cold start took longer than 0.01 s"
    assert watch.said == [f"bench: fake:{tiny_bundle.checkpoint.path} measured ({why})"]
    assert startup_table(report).rows[0].cells[-1] == why
    assert bench_error(report) is None


def test_a_slow_cell_gets_its_length_after_the_first_run() -> None:
    watch = Heard()
    tick = bench._watched(watch, "bench", BenchOptions(seconds=3))
    for second in range(4):
        tick(1.0, 63.0 - second)
    assert [step.total for step in watch.steps] == [
        40,
        640,
    ]  # tenths: at first the least, calls included
    assert watch.steps[-1].done == 40


def test_a_quick_cell_keeps_its_length() -> None:
    watch = Heard()
    tick = bench._watched(watch, "bench", BenchOptions(seconds=3))
    for quarter in range(16):
        tick(0.26, 4.0 - 0.25 * (quarter + 1))
    assert [step.total for step in watch.steps] == [40]
    assert watch.steps[-1].done == 40  # not beyond its end
