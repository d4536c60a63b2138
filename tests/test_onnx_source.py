"""ONNX files that fit their digest and are not what was exported: nothing is made from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from tests.refitted import refit_onnx
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main

NAME = "model.fp32.onnx"
CALIBRATED = ("--calibration-data", "sample", "--calibration-images", "8")


def without_output(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


def with_two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))


def with_weights_elsewhere(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="nowhere.bin")


def with_short_weights(model: onnx.ModelProto) -> None:
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    tensor.raw_data = tensor.raw_data[:-3]


def without_operator_set(model: onnx.ModelProto) -> None:
    del model.opset_import[:]


def of_a_later_operator_set(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 99


def with_a_layer_without_weights(model: onnx.ModelProto) -> None:
    layer = next(node for node in model.graph.node if node.op_type == "Conv")
    del layer.input[1:]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (without_output, "takes input and gives nothing, instead of input and logits"),
        (with_two_inputs, "takes input, other and gives logits, instead of input and logits"),
        (with_weights_elsewhere, "is not valid ONNX: Data of TensorProto"),
        (with_short_weights, "is not valid ONNX: TensorProto"),
        (without_operator_set, "is not valid ONNX: model with IR version"),
        (with_a_layer_without_weights, "is not valid ONNX: Node"),
    ],
)
@pytest.mark.parametrize(
    "words", [("-p", "bf16"), ("-p", "int8", *CALIBRATED), ("--embedded",)], ids=lambda w: w[-1]
)
def test_nothing_is_made_from_a_file_that_does_not_fit_itself(
    onnx_bundle: Bundle,
    change: Callable[[onnx.ModelProto], None],
    cause: str,
    words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = onnx_bundle.root
    refit_onnx(root, NAME, change)
    before = files(root)
    assert main(["export", str(root), "-f", "onnx", *words]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert f"{NAME} {cause}" in said
    assert f"remedy: remove it and make it again: vgg-deploy export {root}" in said
    assert files(root) == before


def test_what_onnx_runtime_refuses_is_told_as_such(
    onnx_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    refit_onnx(onnx_bundle.root, NAME, of_a_later_operator_set)
    words = ["export", str(onnx_bundle.root), "-f", "onnx", "-p", "int8", *CALIBRATED]
    assert main(words) == 3
    assert "error: the ONNX file cannot be run: " in capsys.readouterr().err


def files(root: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != ".lock"}
