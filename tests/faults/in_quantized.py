"""Faults of a conversion: in the fp16 and int8 files that the real converter wrote."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from tests.faults.graph import Array, Graph
from tests.faults.in_graph import Edit, conv, gemm, to_bits
from vgg_deploy.artifact import Precision


def weight_scales(graph: Graph) -> list[onnx.NodeProto]:
    """Nodes that give weights their scale, one per channel."""
    constants = {w.name for w in graph.model.graph.initializer}
    return [n for n in graph.all("DequantizeLinear") if n.input[0] in constants]


def bf16_mantissa(values: Array) -> Array:
    return to_bits(values, 16).astype(np.float16)


def all_weights_of_bf16(graph: Graph) -> None:
    for node in graph.all("Conv", "Gemm"):
        graph.change(node, bf16_mantissa)


def range_too_small(graph: Graph) -> None:
    graph.change(graph.all("QuantizeLinear")[1], lambda s: s / np.float32(32))


def range_too_large(graph: Graph) -> None:
    for node in graph.all("QuantizeLinear"):
        graph.change(node, lambda s: s * np.float32(64))


def scales_permuted(graph: Graph) -> None:
    for node in weight_scales(graph):
        graph.change(node, lambda s: np.roll(s, 3))


def scale_of_one_layer(graph: Graph) -> None:
    graph.change(weight_scales(graph)[1], lambda s: s * np.float32(8))


def no_antialias(graph: Graph) -> None:
    """The filter of an embedded file keeps its reach of one pixel where it scales down."""
    for node in graph.all("Max"):
        node.input[0] = node.input[1]


# Real images of the sample are smaller than the network: their accuracy tells nothing of this.
IN_EMBEDDED: Mapping[str, tuple[Precision, Edit]] = {
    "int8 file that resizes without antialias": ("int8", no_antialias)
}
IN_TRAINED: Mapping[str, tuple[Precision, Edit]] = {
    "weights of bf16, called fp16": ("fp16", all_weights_of_bf16),
    "bias lost in fp16": ("fp16", lambda g: g.change(conv(g, 1), np.zeros_like, 2)),
    "classes in another order in fp16": (
        "fp16",
        lambda g: g.change(gemm(g, -1), lambda w: w[::-1]),
    ),
    "int8 range far too small": ("int8", range_too_small),
    "int8 range far too large": ("int8", range_too_large),
    "int8 scales of another channel": ("int8", scales_permuted),
    "int8 scale of one layer eight times too large": ("int8", scale_of_one_layer),
}
