"""Timings and reports as bench leaves them, with planned samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vgg_deploy.artifact import Precision
from vgg_deploy.environment import Environment
from vgg_deploy.results import (
    SCHEMA_VERSION,
    BenchReport,
    Comparison,
    Subject,
    Timing,
    VerifyReport,
)

MACHINE = Environment(
    versions={"onnxruntime": "1.31.1"},
    python="3.11.7",
    system="Linux x86_64",
    cpu="Some CPU",
    cpu_flags=(),
    cores=2,
    memory_bytes=1 << 30,
    gpu=None,
    driver=None,
)


def row(
    backend: str,
    ms: float,
    *,
    precision: Precision = "fp32",
    n: int = 200,
    seed: int = 0,
    **given: Any,
) -> Timing:
    """A measured row: ``n`` samples around ``ms`` with 1 % noise."""
    noise = np.random.default_rng([seed, int(ms * 1000)]).normal(1, 0.01, n)
    subject = Subject(
        artifact=f"model.{precision}.onnx",
        sha256=precision * 16,
        size_bytes={"fp32": 4_000_000, "int8": 1_000_000}.get(precision, 2_000_000),
        format="onnx",
        precision=precision,
        backend=backend,
        device="cpu",
    )
    timing = Timing(
        subject=subject,
        batch=1,
        status="measured",
        samples_ns=tuple(int(ms * 1e6 * x) for x in noise),
    )
    return replace(timing, **given)


def report(rows: Sequence[Timing], environment: Environment = MACHINE, **given: Any) -> BenchReport:
    made = BenchReport(
        schema_version=SCHEMA_VERSION,
        made_at="2026-11-25T00:00:00+00:00",
        environment=environment,
        key="k",
        clock="host",
        options={},
        rows=tuple(rows),
    )
    return replace(made, **given)


def passed(rows: Sequence[Timing]) -> VerifyReport:
    """A verify that found the files of these timings equivalent."""
    return VerifyReport(
        schema_version=SCHEMA_VERSION,
        made_at="2026-11-25T00:00:00+00:00",
        environment=MACHINE,
        key="k",
        inputs={},
        image_source="",
        batches=(1,),
        reference="",
        rows=tuple(Comparison(subject=r.subject, verdict="equivalent", reason="") for r in rows),
    )
