"""What verify and bench measured: raw samples and their context, without torch.

Statistics are computed when they are shown, never stored instead of the samples.
"""

from __future__ import annotations

from vgg_deploy.results.subject import Subject
from vgg_deploy.results.timed import (
    FEWEST_BLOCKS,
    BenchReport,
    Block,
    Ceiling,
    Clock,
    Contest,
    GpuState,
    LayerProfile,
    LayerTiming,
    Status,
    Timing,
)
from vgg_deploy.results.verified import (
    Z95,
    Accuracy,
    Comparison,
    Figure,
    Hop,
    Location,
    Stage,
    TrippedGate,
    Verdict,
    VerifyReport,
    WorstImage,
    wilson,
)

__all__ = [
    "BENCH_FILE",
    "COMPARE_FILE",
    "FEWEST_BLOCKS",
    "SCHEMA_VERSION",
    "VERIFY_FILE",
    "Z95",
    "Accuracy",
    "BenchReport",
    "Block",
    "Ceiling",
    "Clock",
    "Comparison",
    "Contest",
    "Figure",
    "GpuState",
    "Hop",
    "LayerProfile",
    "LayerTiming",
    "Location",
    "Stage",
    "Status",
    "Subject",
    "Timing",
    "TrippedGate",
    "Verdict",
    "VerifyReport",
    "WorstImage",
    "wilson",
]

SCHEMA_VERSION = 2  # older ones are migrated in stored.py
VERIFY_FILE = "results/verify.json"  # relative to the bundle
BENCH_FILE = "results/bench.json"
COMPARE_FILE = "results/compare.json"
