"""Values that fp16 cannot hold are an error that names where they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from tests.precision.conftest import OPTIONS, artifact_of, with_changed_onnx
from vgg_deploy.artifact import Precision
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import RefusedInput
from vgg_deploy.precision import convert


def scale(name: str, factor: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = next(t for t in model.graph.initializer if t.name == name)
        tensor.raw_data = (onnx.numpy_helper.to_array(tensor) * np.float32(factor)).tobytes()

    return change


def test_fp16_overflow_names_the_layer(bundle: Bundle) -> None:
    scaled = with_changed_onnx(bundle, scale("blocks.1.0.weight", 1e5))
    with pytest.raises(RefusedInput, match=r"fp16 overflows: Conv blocks\.1\.0 gives") as caught:
        convert(scaled, "fp16", OPTIONS)
    assert "bf16" in caught.value.remedy
    assert not (bundle.root / "model.fp16.onnx").exists()
    assert convert(scaled, "bf16")[1].precision == "bf16"


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_values_that_are_not_finite_in_fp32_are_not_quantized(
    bundle: Bundle, precision: Precision
) -> None:
    scaled = with_changed_onnx(bundle, scale("blocks.1.0.weight", 1e38))
    with pytest.raises(RefusedInput, match="gives values that are not finite"):
        convert(scaled, precision, OPTIONS)
    assert not (bundle.root / f"model.{precision}.onnx").exists()


def test_a_weight_beyond_fp16_is_named(bundle: Bundle) -> None:
    from vgg_deploy.precision.cast import to_half

    scaled = with_changed_onnx(bundle, scale("head.fc8.weight", 1e7))
    model = onnx.load(scaled.path(artifact_of(scaled, "fp32")))
    with pytest.raises(RefusedInput, match=r"head\.fc8\.weight holds"):
        to_half(model, "fp16")
