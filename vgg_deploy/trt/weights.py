"""Weights as TensorRT 8.6 reads them: floats with a pair of Q/DQ instead of stored int8.

Our int8 files store the weights in eight bits behind a lone ``DequantizeLinear``. The parser of
TensorRT 8 makes a constant of them, and its ``addConstant`` took no int8: "invalid weights type of
Int8" (NVIDIA/TensorRT issue 2163, onnxruntime issue 11535). What its recipes write instead, ONNX
Runtime's ``AddQDQPairToWeight`` among them, is float weights that the graph itself quantizes.
"""

from __future__ import annotations

import numpy as np

from vgg_deploy.trt.flavour import Traits
from vgg_deploy.trt.pairs import without_pairs_before_relu


def as_read_by(traits: Traits, content: bytes) -> bytes:
    """An ONNX file as the parser of this row takes it; unchanged where it takes all of them."""
    if not traits.fuses_across_pairs:
        content = without_pairs_before_relu(content)
    return content if traits.int8_constants else with_float_weights(content)


def with_float_weights(content: bytes) -> bytes:
    """Quantized weights become ``quantized × scale``, which quantizes to the very same numbers.

    ``rint((q × s) / s)`` is ``q`` for every int8 ``q`` and normal float32 ``s``: the two roundings
    move it by less than 1e-4.
    """
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import helper, numpy_helper

    try:
        model = onnx.load_from_string(content)
    except DecodeError:
        return content  # the parser tells what is wrong with it
    known = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = {n: t for n, t in known.items() if t.data_type == onnx.TensorProto.INT8}
    nodes = list(model.graph.node)
    del model.graph.node[:]
    for node in nodes:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            weight, (name, scale, zero) = stored[node.input[0]], node.input
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            steps = numpy_helper.to_array(weight).astype(np.float32)
            sizes = numpy_helper.to_array(known[scale])
            shape = [-1 if i == axis else 1 for i in range(steps.ndim)]
            weight.CopyFrom(numpy_helper.from_array(steps * sizes.reshape(shape), name))
            node.input[0] = f"{name}_q"
            pair = helper.make_node(
                "QuantizeLinear", [name, scale, zero], [f"{name}_q"], name=f"q_{name}", axis=axis
            )
            model.graph.node.append(pair)
        model.graph.node.append(node)
    changed: bytes = model.SerializeToString(deterministic=True)
    return changed
