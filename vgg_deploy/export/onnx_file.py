"""Writing an ONNX model to disk without a second copy of its weights in memory.

``SerializeToString`` needs the weights three times over (tensors, messages, bytes). An ONNX file
is protobuf: a message is the concatenation of its fields, so the small parts are serialized by
onnx and the weights are written between them straight from the tensors' memory. The bytes are
those ``SerializeToString`` would give, in ascending order of field numbers (tested).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir

from vgg_deploy.errors import ResourceLimit

if TYPE_CHECKING:
    from google.protobuf.message import Message

LIMIT = 2**31 - 1  # bytes of one protobuf message

# Field numbers of onnx.proto that weights lie under.
_MODEL_GRAPH = 7
_GRAPH_INITIALIZER = 5
_TENSOR_RAW_DATA = 9


def write_model(model: ir.Model, path: Path) -> None:
    """Write ``model`` as one self-contained file and let go of its weights.

    The graph is left without initializers: onnxscript's rewrite rules keep the last graph they
    saw alive, and with it the weights would stay in memory until the process ends.

    Raises ``ResourceLimit`` when it would exceed the 2 GiB of a protobuf message.
    """
    weights = _take_weights(model.graph)
    proto = ir.to_proto(model)
    before, after = _around(proto, _MODEL_GRAPH)
    graph_before, graph_after = _around(proto.graph, _GRAPH_INITIALIZER)
    heads = [_head(name, tensor) for name, tensor in weights.items()]
    sizes = [len(h) + t.nbytes for h, t in zip(heads, weights.values(), strict=True)]
    keys = [_key(_GRAPH_INITIALIZER, size) for size in sizes]
    graph_size = len(graph_before) + sum(map(len, keys)) + sum(sizes) + len(graph_after)
    start = before + _key(_MODEL_GRAPH, graph_size)
    check_size(len(start) + graph_size + len(after))
    with path.open("wb") as file:
        file.write(start + graph_before)
        for key, head, tensor in zip(keys, heads, weights.values(), strict=True):
            file.write(key + head)
            file.write(_raw(tensor))
        file.write(graph_after + after)


def _take_weights(graph: ir.Graph) -> dict[str, ir.TensorProtocol]:
    weights = {}
    for name, value in graph.initializers.items():
        if value.const_value is not None:
            weights[name] = value.const_value
        value.const_value = None
    graph.initializers.clear()
    return weights


def check_size(size: int) -> None:
    """Raise ``ResourceLimit`` for a model of ``size`` bytes that one ONNX file cannot hold."""
    if size > LIMIT:
        raise ResourceLimit(
            f"the model takes {size / 1e9:.2f} GB, one ONNX file holds at most {LIMIT / 1e9:.2f}",
            "use a smaller width, fc_width or input, or export torchscript or program",
        )


def _around(message: Message, number: int) -> tuple[bytes, bytes]:
    """The serialized fields below and above a field number."""
    below, above = type(message)(), type(message)()
    below.CopyFrom(message)
    above.CopyFrom(message)
    for field, _ in message.ListFields():
        if field.number >= number:
            below.ClearField(field.name)
        if field.number <= number:
            above.ClearField(field.name)
    return _bytes(below), _bytes(above)


def _head(name: str, tensor: ir.TensorProtocol) -> bytes:
    """A ``TensorProto`` up to where its raw data begin."""
    dims, kind = tensor.shape.numpy(), tensor.dtype.value
    proto = onnx.TensorProto(dims=dims, data_type=kind, name=name)
    return _bytes(proto) + _key(_TENSOR_RAW_DATA, tensor.nbytes)


def _raw(tensor: ir.TensorProtocol) -> memoryview:
    """Little-endian bytes of a tensor, in place where it is contiguous."""
    array = np.ascontiguousarray(tensor.numpy())
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return little.reshape(-1).view(np.uint8).data


def _key(number: int, size: int) -> bytes:
    """Tag and length before a field of ``size`` bytes (protobuf wire type 2)."""
    return _varint(number << 3 | 2) + _varint(size)


def _varint(value: int) -> bytes:
    """A number in groups of seven bits, the lowest first."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*groups, value))


def _bytes(message: Message) -> bytes:
    text: bytes = message.SerializeToString(deterministic=True)
    return text
