"""Q/DQ as TensorRT 8 fuses it: on the inputs of what multiplies, none before a ReLU.

Our int8 files have a pair there for ONNX Runtime's CPU kernels. TensorRT 8 fuses a convolution with
its activation only where no pair stands between them (NVIDIA/TensorRT issue 2134); the maps would
be written and read once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_PRODUCTS = ("Conv", "Gemm", "MatMul")
_KEEPS_SCALE = ("Relu", "MaxPool", "Flatten")
Users = dict[str, list["onnx.NodeProto"]]


def without_pairs_before_relu(content: bytes) -> bytes:
    """The same network without the pairs that are repeated on the next product's input.

    Not one number changes: a ReLU and a maximum commute with rounding to steps of the same scale.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_from_string(content)
    except DecodeError:
        return content  # the parser tells what is wrong with it
    makers = {name: node for node in model.graph.node for name in node.output}
    users: Users = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    for quantize in list(model.graph.node):
        if quantize.op_type != "QuantizeLinear":
            continue
        made = makers.get(quantize.input[0])
        if not made or made.op_type not in _PRODUCTS:
            continue
        back = _only(users, quantize.output[0], "DequantizeLinear")
        alone = _only(users, made.output[0], "QuantizeLinear")
        if alone and back and _is_repeated(users, back.output[0], list(quantize.input[1:])):
            made.output[0] = back.output[0]
            model.graph.node.remove(quantize)
            model.graph.node.remove(back)
    changed: bytes = model.SerializeToString(deterministic=True)
    return changed


def _only(users: Users, name: str, op_type: str) -> onnx.NodeProto | None:
    """The one node that reads a tensor, if it is of that type."""
    found = users.get(name, [])
    return found[0] if len(found) == 1 and found[0].op_type == op_type else None


def _is_repeated(users: Users, name: str, using: list[str]) -> bool:
    """Whether all that becomes of a tensor is quantized with this scale and zero point again."""
    found = users.get(name, [])
    if len(found) != 1:
        return False
    if found[0].op_type == "QuantizeLinear":
        return list(found[0].input[1:]) == using
    return found[0].op_type in _KEEPS_SCALE and _is_repeated(users, found[0].output[0], using)
