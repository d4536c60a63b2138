"""Comparisons of a bundle's backends: names, likeness, marks, and what is stored."""

from __future__ import annotations

from dataclasses import replace
from itertools import repeat

import onnx
import pytest

from tests.bench.test_nvml import Driver
from vgg_deploy import stored
from vgg_deploy.artifact import Precision
from vgg_deploy.backends import get_backend
from vgg_deploy.bench.like import Traits, unlike
from vgg_deploy.bench.nvml import NvmlProbe
from vgg_deploy.bundle import Bundle, open_bundle
from vgg_deploy.errors import DigestMismatch, RefusedInput, UsageError
from vgg_deploy.export.baked import EmbeddedOptions
from vgg_deploy.files import sha256_of
from vgg_deploy.pipeline.bench import BenchOptions, bench_bundle
from vgg_deploy.pipeline.cells import Selection, plan
from vgg_deploy.pipeline.contest import CompareOptions, compare_bundle, told
from vgg_deploy.pipeline.export import embed_preprocessing, export_bundle
from vgg_deploy.pipeline.verified import NOT_VERIFIED, mark_of, verdicts
from vgg_deploy.pipeline.verify import VerifyOptions, verify_bundle
from vgg_deploy.report.ratio_tables import contest_table
from vgg_deploy.results import BENCH_FILE, COMPARE_FILE, VERIFY_FILE, BenchReport, Verdict

ORT = Selection(backends=("ort-cpu",))


@pytest.fixture
def onnx_bundle(tiny_bundle: Bundle) -> Bundle:
    return export_bundle(tiny_bundle, ("onnx",))[0]


def compared(bundle: Bundle, *names: str) -> BenchReport:
    return compare_bundle(bundle, CompareOptions(names=names, blocks=5))


def test_two_backends_in_turns(onnx_bundle: Bundle) -> None:
    report = compared(onnx_bundle, "ort-cpu", "openvino:model.fp32.onnx")
    (found,) = report.contests
    assert [s.backend for s in found.subjects] == ["ort-cpu", "openvino"]
    assert len(found.blocks) == 5
    assert "not verified: run vgg-deploy verify first" in found.marks
    assert stored.load(BenchReport, onnx_bundle.root / COMPARE_FILE) == report
    assert not (onnx_bundle.root / BENCH_FILE).exists()
    ratios = told(report, onnx_bundle.root)["comparisons"]
    assert isinstance(ratios, list)
    assert ratios[0]["ratios"][0]["low"] <= ratios[0]["ratios"][0]["high"]


def test_a_gpu_that_was_slowed_down_is_said(
    onnx_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    driver = Driver(clocks=repeat(1980), reasons=repeat(4))

    def probe(device: str) -> NvmlProbe:
        asked.append(device)
        return NvmlProbe(driver, "gpu 0", lambda _: None)

    monkeypatch.setattr("vgg_deploy.pipeline.contest.probe_for", probe)
    (found,) = compared(onnx_bundle, "ort-cpu", "openvino:model.fp32.onnx").contests
    assert asked == ["cpu"]
    assert "slowed down: power cap" in found.marks
    assert "slowed down: power cap" in contest_table(found).note


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("ort-cpu",), "only ort-cpu to compare"),
        (("ort-cpu", "ort-gpu"), "unknown backend"),
        (("ort-cpu", "openvino:absent.onnx"), "fits no file"),
    ],
)
def test_names_that_fit_nothing(onnx_bundle: Bundle, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        compared(onnx_bundle, *names)


def recorded_as(bundle: Bundle, precision: Precision) -> Bundle:
    """The bundle with its ONNX file in another precision, by its record."""
    plain = bundle.find("onnx")
    assert plain is not None
    other = replace(plain, precision=precision)
    artifacts = tuple(other if a == plain else a for a in bundle.artifacts)
    return replace(bundle, manifest=replace(bundle.manifest, artifacts=artifacts))


def test_unlike_precisions_are_refused_unless_asked_for(onnx_bundle: Bundle) -> None:
    bundle, names = recorded_as(onnx_bundle, "fp16"), ("torch", "ort-cpu")
    with pytest.raises(
        RefusedInput, match="torch and ort-cpu cannot be compared: precision fp32"
    ) as caught:
        compared(bundle, *names)
    assert "--across-precisions" in caught.value.remedy
    options = CompareOptions(names=names, blocks=5, across_precisions=True)
    report = compare_bundle(bundle, options)
    (found,) = report.contests
    assert [s.precision for s in found.subjects] == ["fp32", "fp16"]
    assert contest_table(found).rows[1].cells[-1].endswith("; fp16 against fp32")
    assert "against fp" not in contest_table(found).rows[0].cells[-1]
    kept = stored.load(BenchReport, bundle.root / COMPARE_FILE)
    assert kept.options["across_precisions"] == "on"
    ratios = told(report, bundle.root)["comparisons"]
    assert isinstance(ratios, list)
    assert ratios[0]["precisions"] == ["fp32", "fp16"]


def test_likeness() -> None:
    base = Traits(precision="fp32", device="cuda", batch=1, clock="cuda-events")
    assert unlike(base, base) == ""
    assert unlike(base, replace(base, modes={"cuda_graph": "on"})) == ""  # a way to be faster
    assert unlike(base, replace(base, modes={"tf32": "on"})) == "tf32 off and on"
    assert unlike(base, replace(base, modes={"transfers": "on"})) == "transfers off and on"
    assert unlike(base, replace(base, device="cpu")) == "device cuda and cpu"
    assert unlike(base, replace(base, batch=8)) == "batch 1 and 8"
    other = replace(base, precision="int8")
    assert unlike(base, other) == "precision fp32 and int8"
    assert unlike(base, other, across_precisions=True) == ""
    tensor_cores = replace(base, precision="tf32", modes={"tf32": "on"})
    assert unlike(base, tensor_cores) == "precision fp32 and tf32"
    assert unlike(base, tensor_cores, across_precisions=True) == ""
    elsewhere = replace(other, device="cpu")
    assert unlike(base, elsewhere, across_precisions=True) == "device cuda and cpu"


def made_again(bundle: Bundle) -> Bundle:
    """The bundle after its ONNX file got other bytes and the manifest their digest."""
    artifact = bundle.find("onnx")
    assert artifact is not None
    path, manifest = bundle.path(artifact), bundle.root / "manifest.json"
    model = onnx.load(str(path))
    model.doc_string = "made again"
    onnx.save(model, str(path))
    text = manifest.read_text().replace(artifact.sha256, sha256_of(path))
    size = path.stat().st_size
    manifest.write_text(text.replace(f": {artifact.size_bytes},", f": {size},"))
    return open_bundle(bundle.root)


def test_a_file_that_is_not_the_verified_one_is_exit_4(onnx_bundle: Bundle) -> None:
    verify_bundle(onnx_bundle, VerifyOptions(selection=ORT, images=8, accuracy=False))
    again = made_again(onnx_bundle)
    options = BenchOptions(selection=ORT, seconds=0.05, ceilings=False, layers=False)
    with pytest.raises(DigestMismatch, match="not the file that was verified"):
        bench_bundle(again, options)
    with pytest.raises(DigestMismatch, match="not the file that was verified"):
        compared(again, "torch", "ort-cpu")


@pytest.mark.parametrize(
    ("verdict", "mark"),
    [
        ("equivalent", ()),
        ("different", ("verify: different, the reason",)),
        ("failed", ("verify: failed, the reason",)),
        ("skipped", (NOT_VERIFIED,)),
    ],
)
def test_a_row_says_what_verify_said(
    onnx_bundle: Bundle, verdict: Verdict, mark: tuple[str, ...]
) -> None:
    report = verify_bundle(onnx_bundle, VerifyOptions(selection=ORT, images=8, accuracy=False))
    rows = tuple(replace(row, verdict=verdict, reason="the reason") for row in report.rows)
    stored.save(onnx_bundle.root / VERIFY_FILE, replace(report, rows=rows))
    (cell,) = plan(onnx_bundle, ORT)
    assert mark_of(cell, verdicts(onnx_bundle, [cell])) == mark
    other = replace(cell, backend=get_backend("openvino"))
    assert mark_of(other, verdicts(onnx_bundle, [other])) == (NOT_VERIFIED,)


def test_a_verdict_that_changed_is_not_hidden_by_results_that_are_reused(
    onnx_bundle: Bundle,
) -> None:
    report = verify_bundle(onnx_bundle, VerifyOptions(selection=ORT, images=8, accuracy=False))
    options = BenchOptions(selection=ORT, batches=(1,), seconds=0.05, ceilings=False, layers=False)
    made: set[str] = set()
    turns: tuple[tuple[Verdict, bool], ...]
    turns = (("failed", True), ("equivalent", False), ("failed", True))
    for verdict, marked in turns:
        rows = tuple(replace(row, verdict=verdict, reason="a reason") for row in report.rows)
        stored.save(onnx_bundle.root / VERIFY_FILE, replace(report, rows=rows))
        (row,) = bench_bundle(onnx_bundle, options, reuse=True).rows
        assert any(mark.startswith("verify: ") for mark in row.marks) == marked
        kept = stored.load(BenchReport, onnx_bundle.root / BENCH_FILE)
        assert not any(mark.startswith("verify: ") for mark in kept.rows[0].marks)
        made.add(kept.made_at)
    assert len(made) == 1  # a verdict is no reason to time again


def test_ceilings_and_layers_are_measured_in_the_same_run(onnx_bundle: Bundle) -> None:
    report = bench_bundle(onnx_bundle, BenchOptions(selection=ORT, batches=(1,), seconds=0.05))
    assert {(c.kind, c.precision) for c in report.ceilings} >= {("gemm", "fp32"), ("copy", None)}
    (profile,) = report.layers
    names = [layer.name for layer in profile.layers]
    assert [n for n in names if n.startswith("conv")] == [
        "conv1_1", "conv2_1", "conv3_1", "conv3_2"
    ]  # fmt: skip
    assert {"fc6", "fc7", "fc8", "other"} < set(names)
    assert all(len(layer.samples_ns) == 20 for layer in profile.layers)


def test_a_backend_alone_means_its_plain_file(onnx_bundle: Bundle) -> None:
    bundle, _ = embed_preprocessing(onnx_bundle, EmbeddedOptions())
    (one,) = compared(bundle, "ort-cpu", "openvino").contests
    assert [subject.artifact for subject in one.subjects] == ["model.fp32.onnx"] * 2
