"""A bundle with stored results as verify, bench and train leave them, made without torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from tests.report import measured
from vgg_deploy import stored
from vgg_deploy.artifact import Artifact, Format, Precision, TensorSpec
from vgg_deploy.bundle import Bundle, create_bundle, open_bundle
from vgg_deploy.environment import Environment
from vgg_deploy.manifest import Draft
from vgg_deploy.results import (
    BENCH_FILE,
    COMPARE_FILE,
    SCHEMA_VERSION,
    VERIFY_FILE,
    Accuracy,
    BenchReport,
    Comparison,
    Figure,
    Subject,
    Timing,
    VerifyReport,
)
from vgg_deploy.spec import ModelCard, ModelSpec, Preprocessing

HOSTILE = "<script>alert('x')</script>"
LABELS = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker")
ENVIRONMENT = Environment(
    versions={"vgg-deploy": "0.1.0", "torch": "2.14.1", "onnxruntime": "1.31.1"},
    python="3.11.7",
    system="Linux x86_64",
    cpu="Some CPU @ 2.6 GHz",
    cpu_flags=("avx2", "avx512_bf16"),
    cores=2,
    memory_bytes=25_276_510_208,
    gpu=None,
    driver=None,
)
EXPORTED: tuple[tuple[Format, Precision], ...] = (
    ("torchscript", "fp32"),
    ("program", "fp32"),
    ("onnx", "fp32"),
    ("onnx", "fp16"),
)
# backend, format, precision, milliseconds at batch 1, spread
RUNNING: tuple[tuple[str, Format, Precision, float, float], ...] = (
    ("torch", "checkpoint", "fp32", 4.9, 0.06),
    ("torch-compile", "checkpoint", "fp32", 3.4, 0.03),
    ("torchscript", "torchscript", "fp32", 4.4, 0.04),
    ("ort-cpu", "onnx", "fp32", 2.61, 0.02),
    ("openvino", "onnx", "fp32", 2.58, 0.012),
)


def make_sample(root: Path) -> Bundle:
    """A bundle whose results hold every kind of row."""
    bundle = make_files(root)
    stored.save(root / VERIFY_FILE, verify_report(bundle))
    stored.save(root / BENCH_FILE, bench_report(bundle))
    stored.save(root / COMPARE_FILE, compare_report(bundle))
    rows = [
        {
            "epoch": e + 1,
            "loss": 0.9 * 0.62**e + 0.18,
            "train_accuracy": 0.94 - 0.27 * 0.6**e,
            "test_accuracy": 0.918 - 0.2 * 0.5**e,
            "examples_per_second": 361.7 + e,
            "seconds": 166.2 + e,
        }
        for e in range(6)
    ]
    (root / "training").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (root / "training" / "metrics.jsonl").write_text(text, encoding="utf-8")
    return bundle


def make_files(root: Path) -> Bundle:
    """The artifacts alone; their bytes are made up."""
    card = ModelCard(
        spec=ModelSpec.named("vgg11", width=0.25, size=64, channels=1, classes=10),
        preprocessing=Preprocessing(size=64, channels=1, mean=(0.2861,), std=(0.3529,)),
        labels=(*LABELS, "bag & more", HOSTILE),
        dataset="fashion-mnist",
    )
    bundle, checkpoint = create_bundle(
        root, card, _draft("checkpoint", "fp32", None), _writer("weights"), replace=False
    )
    for kind, precision in EXPORTED:
        draft = _draft(kind, precision, checkpoint.sha256)
        bundle, _ = bundle.add(draft, _writer(f"{kind} {precision}"))
    return bundle


def verify_report(bundle: Bundle) -> VerifyReport:
    rows = [_equivalent(bundle, cell, i) for i, cell in enumerate(RUNNING)]
    rows.append(
        Comparison(
            subject=subject(bundle, "ort-cpu", "onnx", "fp16"),
            verdict="different",
            reason="rel_l2 0.0214 above 0.003 (batch 8, worst on real 17)",
            figures=(
                Figure(name="rel_l2", value=0.0214, limit=0.003, ok=False),
                Figure(name="max_abs", value=None, limit=0.02, ok=False),
                Figure(name="unexcused_flips", value=2, limit=0, ok=False),
                Figure(name="top5_agreement", value=0.9684, limit=None, ok=True),
            ),
            accuracy=Accuracy(dataset="fashion-mnist", split="test", correct=9051, total=10_000),
            worst=measured.worst_image(0),
            hops=measured.hops("model.fp16.onnx", 0.0214, 0.003, ok=False),
            location=measured.located(),
        )
    )
    rows.append(
        Comparison(
            subject=subject(bundle, "torch-export", "program", "fp32"),
            verdict="failed",
            reason="RuntimeError: Expected batch >= 2 but got 1",
        )
    )
    rows.append(
        Comparison(
            subject=replace(
                subject(bundle, "ort-cuda", "onnx", "fp32"), artifact="(onnx)", sha256=""
            ),
            verdict="skipped",
            reason="no NVIDIA GPU was found; run on a machine with one",
        )
    )
    return VerifyReport(
        schema_version=SCHEMA_VERSION,
        made_at="2026-11-24T02:21:32+00:00",
        environment=ENVIRONMENT,
        key="0" * 64,
        inputs={"real": 32, "noise": 4, "edge": 2},
        image_source="fashion-mnist test",
        batches=(1, 2, 8),
        reference="torch float64 on CPU",
        rows=tuple(rows),
    )


def bench_report(bundle: Bundle) -> BenchReport:
    rows = [_timing(bundle, c, batch) for batch in (1, 8, 32) for c in RUNNING]
    failed = subject(bundle, "torch-export", "program", "fp32")
    rows += [
        Timing(subject=failed, batch=b, status="failed", reason="RuntimeError: broke")
        for b in (1, 8, 32)
    ]
    missing = replace(subject(bundle, "ort-cuda", "onnx", "fp32"), artifact="(onnx)", sha256="")
    rows.append(Timing(subject=missing, batch=0, status="skipped", reason="no NVIDIA GPU"))
    return BenchReport(
        schema_version=SCHEMA_VERSION,
        made_at="2026-11-24T02:31:05+00:00",
        environment=ENVIRONMENT,
        key="1" * 64,
        clock="host clock (perf_counter_ns) around run and sync",
        options={"seconds": "3", "percentile": "90"},
        rows=tuple(rows),
        ceilings=measured.CEILINGS,
        layers=(measured.profile(subject(bundle, "ort-cpu", "onnx", "fp32"), bundle.card.spec),),
    )


def compare_report(bundle: Bundle) -> BenchReport:
    pair = [subject(bundle, name, "onnx", "fp32") for name in ("openvino", "ort-cpu")]
    return replace(bench_report(bundle), rows=(), ceilings=(), layers=(),
                   contests=(measured.contest(pair),))  # fmt: skip


def subject(bundle: Bundle, backend: str, format: Format, precision: Precision) -> Subject:
    artifact = bundle.find(format, precision)
    assert artifact is not None
    return _subject(backend, artifact)


def replaced(bundle: Bundle, format: Format) -> Bundle:
    """The bundle after that artifact was made again with other bytes."""
    changed, _ = bundle.add(_draft(format, "fp32", bundle.checkpoint.sha256), _writer("made again"))
    return open_bundle(changed.root)


def _subject(backend: str, artifact: Artifact) -> Subject:
    return Subject(
        artifact=str(artifact.path),
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        format=artifact.format,
        precision=artifact.precision,
        backend=backend,
        device="cpu",
    )


def _equivalent(
    bundle: Bundle, cell: tuple[str, Format, Precision, float, float], index: int
) -> Comparison:
    backend, kind, precision, *_ = cell
    error = (3.9 + 0.7 * index) * 1e-7
    return Comparison(
        subject=subject(bundle, backend, kind, precision),
        verdict="equivalent",
        reason="",
        figures=(
            Figure(name="rel_l2", value=error, limit=5e-6, ok=True),
            Figure(name="max_abs", value=error * 6, limit=2.3e-5, ok=True),
            Figure(name="unexcused_flips", value=0, limit=0, ok=True),
            Figure(name="top1_flips", value=0, limit=None, ok=True),
            Figure(name="top5_agreement", value=1, limit=None, ok=True),
            Figure(name="eager_ratio", value=1 + 0.1 * index, limit=None, ok=True),
            Figure(name="cosine", value=1 - 3e-13 * (index + 1), limit=None, ok=True),
            Figure(name="kl", value=2e-13, limit=None, ok=True),
            Figure(name="top1_drop", value=0, limit=0.1, ok=True),
        ),
        accuracy=Accuracy(
            dataset="fashion-mnist",
            split="test",
            correct=9182,
            total=10_000,
            confusion=measured.confusion(9182, 10_000),
        ),
        seconds=12.5,
        worst=measured.worst_image(1 + index // 2),
        hops=measured.hops("model.fp32.onnx", error, 5e-6, ok=True) if kind == "onnx" else (),
    )


def _timing(
    bundle: Bundle, cell: tuple[str, Format, Precision, float, float], batch: int
) -> Timing:
    backend, kind, precision, ms, spread = cell
    random = np.random.default_rng(len(backend) * 100 + batch)
    middle = ms * batch**0.87 * 1e6
    samples = middle * (1 + np.abs(random.normal(0, spread, 700 if batch == 1 else 120)))
    return Timing(
        subject=subject(bundle, backend, kind, precision),
        batch=batch,
        status="measured",
        samples_ns=tuple(int(s) for s in samples),
        end_to_end_ns=tuple(int(s * 1.05) for s in samples[:30]),
        warmup_runs=10 + 5 * (batch == 1),
        load_s=0.031 * ms,
        import_s=1.4,
        first_s=0.012 * ms,
        peak_memory_bytes=int(180e6 + 40e6 * ms),
        marks=("noisy: quartiles ±12 %",) if backend == "torch" and batch == 32 else (),
    )


def _draft(format: Format, precision: Precision, parent: str | None) -> Draft:
    return Draft(
        format=format,
        precision=precision,
        input=TensorSpec(
            name="input",
            dtype="float32",
            shape=("batch", 1, 64, 64),
            layout="NCHW",
            value_range=(-0.81, 2.02),
        ),
        output=TensorSpec(name="logits", dtype="float32", shape=("batch", 10), layout="NC"),
        parent=parent,
        made_by={"opset": "18", "torch": "2.14.1", "vgg-deploy": "0.1.0"},
    )


class _writer:  # noqa: N801 - a function with a text
    def __init__(self, text: str) -> None:
        self._text = text

    def __call__(self, path: Path) -> None:
        path.write_bytes((self._text + "\n").encode() * 40_000)
