"""fp16 and bf16: weights and computation in half, input and output stay float32.

The casts stand in the graph, so that a strongly typed TensorRT network and every other runtime
compute in the same types. Local response normalisation stays in float32: it adds up squares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.errors import RefusedInput
from vgg_deploy.precision.graph import array_of, set_array

if TYPE_CHECKING:
    import onnx

HALF_MAX = 65504.0  # largest finite float16
_KEPT_IN_FLOAT32 = frozenset({"LRN"})


def to_half(model: onnx.ModelProto, kind: str) -> None:
    """Turn an fp32 model into ``kind`` ("fp16" or "bf16") in place.

    Raises ``RefusedInput`` for a weight that fp16 cannot hold, by name.
    """
    from onnx import TensorProto

    data_type = TensorProto.FLOAT16 if kind == "fp16" else TensorProto.BFLOAT16
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            set_array(tensor, _rounded(tensor.name, array_of(tensor), kind), data_type)
    _cast_graph(model.graph, data_type)


def check_range(largest: dict[str, float], where: dict[str, str]) -> str:
    """Refuse activations beyond fp16's largest number, by layer; else say how close they come.

    ``largest`` holds the largest absolute value seen of each tensor, ``where`` the layer it comes
    from.
    """
    name = max(largest, key=lambda key: largest[key])
    top = largest[name]
    if not top <= HALF_MAX:  # NaN, too
        first = next(n for n in largest if not largest[n] <= HALF_MAX)
        raise RefusedInput(
            f"fp16 overflows: {where[first]} gives values up to {largest[first]:.3g} on the "
            f"calibration images, fp16 holds {HALF_MAX:g}",
            "use --precision bf16, which has the range of fp32",
        )
    return f"{top:.4g} of {HALF_MAX:g} in {where[name]}"


def _rounded(name: str, values: NDArray[np.float32], kind: str) -> NDArray[Any]:
    """To the nearest half, ties to even."""
    if kind == "bf16":
        import ml_dtypes

        return values.astype(ml_dtypes.bfloat16)
    if values.size and not np.abs(values).max() <= HALF_MAX:
        raise RefusedInput(
            f"fp16 overflows: {name} holds {np.abs(values).max():.3g}, fp16 holds {HALF_MAX:g}",
            "use --precision bf16, which has the range of fp32",
        )
    return values.astype(np.float16)


def _cast_graph(graph: onnx.GraphProto, half: int) -> None:
    """One cast after the input, one before the output, two around what stays in float32."""
    from onnx import TensorProto

    nodes = list(graph.node)
    del graph.node[:]
    given, wanted = graph.input[0].name, graph.output[0].name
    renamed = {given: f"{given}_half"}
    graph.node.append(_cast(given, renamed[given], half))
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type in _KEPT_IN_FLOAT32:
            (into,), (out,) = node.input, node.output
            graph.node.append(_cast(into, f"{into}_float", TensorProto.FLOAT))
            node.input[:], node.output[:] = [f"{into}_float"], [f"{out}_float"]
            graph.node.extend([node, _cast(f"{out}_float", out, half)])
            continue
        if wanted in node.output:
            node.output[:] = [f"{wanted}_half"]
        graph.node.append(node)
    graph.node.append(_cast(f"{wanted}_half", wanted, TensorProto.FLOAT))


def _cast(source: str, target: str, data_type: int) -> onnx.NodeProto:
    from onnx import helper

    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=data_type)
