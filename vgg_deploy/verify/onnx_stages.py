"""An ONNX file cut off behind one stage of its VGG, so that any runtime gives that stage.

Stages are found by what they are: the n-th MaxPool is ``pool n``, the last Gemm or MatMul are the
fully connected layers. A cut file has one input and one output, as every session expects.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_deploy.errors import RefusedInput

if TYPE_CHECKING:
    import onnx

_PRODUCTS = ("Gemm", "MatMul")
_PASSING = ("Cast", "QuantizeLinear", "DequantizeLinear")


def read(path: Path) -> onnx.ModelProto:
    """The whole model, weights included."""
    import onnx

    return onnx.load(str(path))


def stage_tensors(model: onnx.ModelProto, names: Sequence[str]) -> dict[str, str]:
    """Name of the tensor behind each stage of ``names``: ``pool1 …``, ``fc6 …``.

    Raises ``RefusedInput`` for a graph that has not these stages.
    """
    blocks = sum(name.startswith("pool") for name in names)
    layers = len(names) - blocks
    nodes = list(model.graph.node)
    pools = [node.output[0] for node in nodes if node.op_type == "MaxPool"]
    # resizing in an embedded file is MatMul, too, and comes before the convolutions
    products = [node for node in nodes if node.op_type in _PRODUCTS][-layers:]
    if len(pools) != blocks or len(products) != layers:
        raise RefusedInput(
            f"the graph has {len(pools)} max pools and {len(products)} products at its end, its "
            f"network has {blocks} and {layers}",
            "that is a finding by itself: export the file again",
        )
    return dict(zip(names, [*pools, *(_with_bias(node, nodes) for node in products)], strict=True))


def cut(model: onnx.ModelProto, tensor: str, path: Path) -> None:
    """Write the part of the model that makes ``tensor``, as its only output, float32."""
    import onnx
    from onnx import TensorProto, helper

    nodes: list[onnx.NodeProto] = []
    needed = {tensor}
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            nodes.insert(0, node)
            needed |= set(node.input)
    output = "vgg_deploy_stage"
    nodes.append(helper.make_node("Cast", [tensor], [output], to=TensorProto.FLOAT))
    part = onnx.ModelProto()
    part.CopyFrom(_shell(model))
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(w for w in model.graph.initializer if w.name in needed)
    part.graph.input.extend(model.graph.input)
    part.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, None))
    onnx.save(part, str(path))


def _shell(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without its graph's content."""
    import onnx

    shell = onnx.ModelProto(ir_version=model.ir_version)
    shell.opset_import.extend(model.opset_import)
    shell.functions.extend(model.functions)
    shell.graph.name = "stage"
    return shell


def _with_bias(product: onnx.NodeProto, nodes: list[onnx.NodeProto]) -> str:
    """The tensor behind a product and the Add of its bias, where that is a node of its own."""
    tensor: str = product.output[0]
    while True:
        users = [node for node in nodes if tensor in node.input]
        if len(users) != 1 or users[0].op_type not in (*_PASSING, "Add"):
            return tensor
        tensor = users[0].output[0]
        if users[0].op_type == "Add":
            return tensor
