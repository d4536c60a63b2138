"""int8 and fp8: explicit Q/DQ on the inputs and weights of every layer that multiplies.

Symmetric, zero point 0, weights per output channel, biases in float32: what TensorRT takes.

In int8 a layer's output has a pair, too, before its ReLU, with the scale of the next layer's input,
where only ReLU, max pooling and flatten stand between the two: what it clips the ReLU would have
taken, and the second pair rounds nothing more. Without it ONNX Runtime's CPU kernels find no int8
convolution, because a ReLU stands in between, and compute in float32. TensorRT-RTX builds the same
kernels either way (docs/LOG.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.precision.graph import array_of, layers, set_array, weights

if TYPE_CHECKING:
    import onnx

QuantizedPrecision = Literal["int8", "fp8"]
FP8_MAX = 448.0  # largest finite float8 e4m3fn
_ZERO = "quantized_zero"
_KEEPS_SCALE = ("Relu", "MaxPool", "Flatten")


@dataclass(frozen=True)
class _Kind:
    """The eight-bit type of one model."""

    data_type: int
    dtype: np.dtype[Any]
    top: float  # the magnitude a range's end is mapped to
    integer: bool


def _kind_of(precision: QuantizedPrecision) -> _Kind:
    from onnx import TensorProto

    if precision == "int8":
        return _Kind(TensorProto.INT8, np.dtype(np.int8), 127.0, integer=True)
    import ml_dtypes

    dtype = np.dtype(ml_dtypes.float8_e4m3fn)
    return _Kind(TensorProto.FLOAT8E4M3FN, dtype, FP8_MAX, integer=False)


def quantized_tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """The activations that get a pair: inputs of convolutions and fully connected layers."""
    return tuple(dict.fromkeys(node.input[0] for node in layers(model)))


def insert_pairs(
    model: onnx.ModelProto, precision: QuantizedPrecision, ranges: Mapping[str, float]
) -> None:
    """Write Q/DQ into an fp32 model in place; ``ranges`` maps activations to their magnitude."""
    kind, graph = _kind_of(precision), model.graph
    after = _scale_after(model) if kind.integer else {}
    known, chosen = weights(model), {node.output[0] for node in layers(model)}
    nodes = list(graph.node)
    del graph.node[:]
    graph.initializer.append(_tensor(_ZERO, np.zeros((), kind.dtype), kind.data_type))
    done: set[str] = set()
    for node in nodes:
        if node.output[0] in chosen:
            source = node.input[0]
            if source not in done:
                graph.node.extend(_activation_pair(graph, source, ranges[source] / kind.top))
                done.add(source)
            axis = _output_axis(node)
            graph.node.append(_weight_pair(graph, known[node.input[1]], axis, kind))
            node.input[0], node.input[1] = f"{source}_dq", f"{node.input[1]}_dq"
        if source := after.get(node.output[0]):
            output = node.output[0]
            node.output[0] = f"{output}_float"
            graph.node.extend([node, *_pair(f"{output}_float", output, f"{source}_scale")])
        else:
            graph.node.append(node)


def _scale_after(model: onnx.ModelProto) -> dict[str, str]:
    """For each layer's output the input of the next layer, where both can share a scale."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    inputs = set(quantized_tensors(model))
    found = {}
    for layer in layers(model):
        name = layer.output[0]
        while name not in inputs and [u.op_type in _KEEPS_SCALE for u in users.get(name, ())] == [
            True
        ]:
            name = users[name][0].output[0]
        if name in inputs:
            found[layer.output[0]] = name
    return found


def _output_axis(node: onnx.NodeProto) -> int:
    """The axis of a weight that counts output channels."""
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if node.op_type == "Conv" or transposed else 1


def _activation_pair(graph: onnx.GraphProto, name: str, scale: float) -> list[onnx.NodeProto]:
    from onnx import TensorProto

    step = np.asarray(scale if scale > 0 else 1.0, np.float32)  # an input that is always zero
    graph.initializer.append(_tensor(f"{name}_scale", step, TensorProto.FLOAT))
    return _pair(name, f"{name}_dq", f"{name}_scale")


def _pair(source: str, target: str, scale: str) -> list[onnx.NodeProto]:
    from onnx import helper

    using, between = [scale, _ZERO], f"{target}_q"
    return [
        helper.make_node("QuantizeLinear", [source, *using], [between], name=f"q_{target}"),
        helper.make_node("DequantizeLinear", [between, *using], [target], name=f"dq_{target}"),
    ]


def _weight_pair(
    graph: onnx.GraphProto, tensor: onnx.TensorProto, axis: int, kind: _Kind
) -> onnx.NodeProto:
    """Store a weight in eight bits with one scale per output channel; the node that reads it."""
    from onnx import TensorProto, helper

    values, name = array_of(tensor), tensor.name
    others = tuple(i for i in range(values.ndim) if i != axis)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / kind.top, 1.0).astype(np.float32)
    steps = np.clip(values / scale, -kind.top, kind.top)
    set_array(
        tensor, (np.rint(steps) if kind.integer else steps).astype(kind.dtype), kind.data_type
    )
    zeros = np.zeros(scale.size, kind.dtype)
    graph.initializer.append(_tensor(f"{name}_scale", scale.reshape(-1), TensorProto.FLOAT))
    graph.initializer.append(_tensor(f"{name}_zero", zeros, kind.data_type))
    using = [name, f"{name}_scale", f"{name}_zero"]
    return helper.make_node("DequantizeLinear", using, [f"{name}_dq"], name=f"dq_{name}", axis=axis)


def _tensor(name: str, values: NDArray[Any], data_type: int) -> onnx.TensorProto:
    import onnx

    tensor = onnx.TensorProto(name=name, dims=values.shape)
    set_array(tensor, values, data_type)
    return tensor
