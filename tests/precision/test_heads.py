"""Averages over windows of several sizes in every precision and runtime: two matrix products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.export.networks import CARDS, lively_bundle
from tests.precision.conftest import OPTIONS, artifact_of
from tests.rtx import build
from vgg_deploy.artifact import Precision
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.base import Array
from vgg_deploy.backends.reference import _network, reference
from vgg_deploy.bundle import Bundle
from vgg_deploy.data.fashion_mnist import load_dataset
from vgg_deploy.data.images import to_channels
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.export import export
from vgg_deploy.precision import ONNX_PRECISIONS, convert

MADE: tuple[Precision, ...] = ONNX_PRECISIONS
CLOSE = {"fp32": 1e-5, "fp16": 2e-3, "int8": 1e-1, "fp8": 1.5e-1}
RUNS = [("ort-cpu", precision) for precision in CLOSE]
RUNS += [("openvino", precision) for precision in ("fp32", "int8", "fp8")]


@pytest.fixture(scope="module", params=["head_2", "head_10"])
def bundle(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Bundle:
    card = CARDS[request.param]
    made = export(lively_bundle(tmp_path_factory.mktemp("heads") / "b", card), "onnx")[0]
    for precision in MADE[1:]:
        made, _, _ = convert(made, precision, OPTIONS)
    return made


def images(bundle: Bundle) -> Array:
    return preprocess(
        to_channels(load_dataset("sample").test.images[:16], 3), bundle.card.preprocessing
    )


@pytest.mark.parametrize(("backend", "precision"), RUNS)
def test_computes_what_the_reference_does(
    bundle: Bundle, backend: str, precision: Precision
) -> None:
    batch = images(bundle)
    exact = reference(bundle.path(bundle.checkpoint), batch)
    assert np.ptp(exact, axis=0).max() > 0.1 * np.abs(exact).max(), "else only biases are compared"
    with get_backend(backend).open(artifact_of(bundle, precision), bundle.root) as session:
        error = np.linalg.norm(session(batch) - exact) / np.linalg.norm(exact)
    assert 0 < error < CLOSE[precision]


@pytest.mark.parametrize("capability", ["SM89", "SM120"])
@pytest.mark.parametrize("precision", MADE)
def test_tensorrt_parses_and_builds_it(
    bundle: Bundle, precision: Precision, capability: str
) -> None:
    plan, said = build(bundle.path(artifact_of(bundle, precision)), capability)
    assert plan, said


def test_the_yardstick_rounds_the_means_as_the_files_do(tmp_path: Path) -> None:
    """A third in bf16 is too large by 1/512: no yardstick would know where the error came from."""
    bundle = lively_bundle(tmp_path / "b", CARDS["head_10"])
    path, exact = bundle.path(bundle.checkpoint), torch.full((3,), 1 / 3, dtype=torch.float64)
    for precision, kind in (("bf16", torch.bfloat16), ("fp16", torch.float16), (None, None)):
        with _network(path, precision) as network:  # type: ignore[arg-type]
            means = network.pool.get_buffer("weight")
        thirds = means[(means > 0.3) & (means < 0.4)]
        assert torch.equal(thirds[:3].double(), exact.to(kind).double())
