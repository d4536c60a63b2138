"""TensorRT on a real GPU: built, opened, called, captured, and read back."""

from __future__ import annotations

import numpy as np
import pytest

from vgg_deploy.artifact import Flavour, Precision
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.reference import reference
from vgg_deploy.bundle import Bundle
from vgg_deploy.pipeline.build import build_bundle
from vgg_deploy.precision.convert import convert
from vgg_deploy.trt.options import BuildOptions
from vgg_deploy.trt.profile import Profile

BATCH = np.random.default_rng(0).normal(size=(3, 1, 32, 32)).astype(np.float32)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16"])
@pytest.mark.parametrize(("name", "flavour"), [("trt", "tensorrt"), ("trt-rtx", "tensorrt_rtx")])
def test_on_a_gpu(name: str, flavour: Flavour, precision: Precision, bundle: Bundle) -> None:
    backend = get_backend(name)
    if missing := backend.probe():
        pytest.skip(missing.reason)
    if precision == "fp16":
        bundle = convert(bundle, "fp16")[0]
    options = BuildOptions(flavour=flavour, profiles=(Profile(1, 1, 1), Profile(2, 3, 8)))
    (made,), error = build_bundle(bundle, options, (precision,))
    assert error is None
    assert made.engine is not None
    exact = reference(bundle.path(bundle.checkpoint), BATCH)
    near = (1e-3 if precision == "fp32" else 2e-2) * float(np.abs(exact).max())
    with backend.open(made.engine, bundle.root) as session:
        for size in (1, 3, 2):
            run = session.bind(BATCH[:size])
            np.testing.assert_allclose(session(BATCH[:size]), exact[:size], atol=near)
            run()
            run()
            session.sync()
            np.testing.assert_allclose(session.output(), exact[:size], atol=near)  # type: ignore[attr-defined]
