"""The policy's refusals and the writer's limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from vgg_deploy.errors import RefusedInput, ResourceLimit
from vgg_deploy.export.onnx_file import LIMIT, check_size, write_model
from vgg_deploy.export.onnx_policy import check_policy


def model_of(op: str, *, domain: str = "", opset: int = 18, **attributes: Any) -> onnx.ModelProto:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node(
                op, ["x"], ["y"], name="the_node", domain=domain or None, **attributes
            )
        ],
        "graph",
        [value("x", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])],
        [value("y", onnx.TensorProto.FLOAT, ["n", 3, 8, 8])],
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_policy_lets_a_plain_graph_pass() -> None:
    check_policy(ir.from_proto(model_of("Relu")))
    check_policy(ir.from_proto(model_of("AveragePool", kernel_shape=[2, 2])))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (model_of("Sigmoid"), "node the_node is the operator Sigmoid"),
        (model_of("Relu", domain="com.example"), "the_node is the operator com.example::Relu"),
        (model_of("AveragePool", kernel_shape=[1, 1]), "the_node is an AveragePool of 1×1"),
        (model_of("Relu", opset=20), "operator sets"),
    ],
    ids=["operator", "domain", "pointless pool", "opset"],
)
def test_policy_names_what_it_refuses(model: onnx.ModelProto, message: str) -> None:
    with pytest.raises(RefusedInput, match=message):
        check_policy(ir.from_proto(model))


def test_policy_refuses_functions() -> None:
    model = model_of("Relu")
    function = onnx.helper.make_function(
        "f", "F", ["a"], ["b"], [onnx.helper.make_node("Relu", ["a"], ["b"])], model.opset_import
    )
    model.functions.append(function)
    with pytest.raises(RefusedInput, match="1 model functions"):
        check_policy(ir.from_proto(model))


def test_two_gigabytes_are_refused() -> None:
    check_size(LIMIT)
    with pytest.raises(ResourceLimit, match=r"2\.15 GB, one ONNX file"):
        check_size(LIMIT + 1)


@pytest.mark.parametrize("size", [1, 100, 127, 128, 20_000])
def test_writer_equals_protobuf(tmp_path: Path, size: int) -> None:
    """Lengths around the borders of a variable-length integer, several types, non-contiguous."""
    proto = model_of("Relu")
    square = np.arange(9, dtype=np.float32).reshape(3, 3).T
    for name, array in {
        "bytes": np.arange(size, dtype=np.uint8),
        "floats": np.linspace(0, 1, size, dtype=np.float32),
        "square": square,
        "scalar": np.array(3, dtype=np.int64),
        "none": np.zeros((0, 2), dtype=np.float32),
    }.items():
        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        proto.graph.initializer.append(tensor)
    proto.metadata_props.add(key="k", value="v")
    model = ir.from_proto(proto)
    model.graph.initializers["square"].const_value = ir.Tensor(square, name="square")
    write_model(model, tmp_path / "written.onnx")
    want = proto.SerializeToString(deterministic=True)
    assert (tmp_path / "written.onnx").read_bytes() == want
    assert not model.graph.initializers
