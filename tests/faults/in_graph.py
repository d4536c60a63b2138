"""Faults inside an ONNX file: each edits the graph that the real exporter wrote."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto

from tests.faults.graph import Array, Graph

Edit = Callable[[Graph], None]
MEAN, STD = (0.3, 0.4, 0.5), (0.25, 0.3, 0.35)  # of the plain bundle's card


def conv(graph: Graph, index: int) -> onnx.NodeProto:
    return graph.all("Conv")[index]


def gemm(graph: Graph, index: int) -> onnx.NodeProto:
    return graph.all("Gemm")[index]


def flip_bit(values: Array, bit: int, at: int) -> Array:
    """One bit of one float32."""
    flat = values.astype(np.float32).ravel().copy()
    flat.view(np.uint32)[at] ^= np.uint32(1 << bit)
    return np.asarray(flat.reshape(values.shape))


def to_bits(values: Array, dropped: int) -> Array:
    """Float32 with the last bits of the mantissa cleared."""
    bits = values.astype(np.float32).view(np.uint32)
    cut: Array = (bits & np.uint32(~((1 << dropped) - 1) & 0xFFFFFFFF)).view(np.float32)
    return cut


def to_8_bits(values: Array) -> Array:
    scale = np.abs(values).max() / 127
    return np.asarray(np.round(values / scale) * scale, np.float32)


def per_channel(values: tuple[float, ...]) -> list[list[list[float]]]:
    return [[[v]] for v in values]


def swap_weights(graph: Graph) -> None:
    one, two = conv(graph, -1), conv(graph, -2)
    first, second = graph.weight(one), graph.weight(two)
    graph.set_weight(one, second)
    graph.set_weight(two, first)


def nhwc(graph: Graph) -> None:
    (flatten,) = graph.all("Flatten")
    pool = next(n for n in graph.nodes if flatten.input[0] in n.output)
    graph.after(pool, "Transpose", perm=[0, 2, 3, 1])


def permuted_rows(graph: Graph) -> None:
    for index in (1, 2):
        graph.change(gemm(graph, -1), lambda w: w[::-1], index)


def permuted_metadata(graph: Graph) -> None:
    entry = next(p for p in graph.model.metadata_props if p.key == "vgg_deploy.labels")
    entry.value = json.dumps(json.loads(entry.value)[::-1])


def other_mean_in_metadata(graph: Graph) -> None:
    entry = next(p for p in graph.model.metadata_props if p.key == "vgg_deploy.preprocessing")
    said = json.loads(entry.value)
    said["mean"] = [0.485, 0.456, 0.406]
    entry.value = json.dumps(said)


def overflow(graph: Graph) -> None:
    """An activation beyond 65,504 in half precision: infinite, and then NaN."""
    pool = graph.all("MaxPool")[-1]
    graph.after(pool, "Mul", graph.constant(1e-6))
    graph.after(pool, "Cast", to=TensorProto.FLOAT)
    graph.after(pool, "Cast", to=TensorProto.FLOAT16)
    graph.after(pool, "Mul", graph.constant(1e6))


def half_activation(graph: Graph) -> None:
    pool = graph.all("MaxPool")[0]
    graph.after(pool, "Cast", to=TensorProto.FLOAT)
    graph.after(pool, "Cast", to=TensorProto.FLOAT16)


def batch_dependent(graph: Graph) -> None:
    inner = graph.take_output()
    mean = graph.add("ReduceMean", [inner, graph.constant([0], np.int64)], keepdims=1)
    little = graph.add("Mul", [mean, graph.constant(1e-3)])
    graph.give_output(graph.add("Sub", [inner, little]))


def nan_for_white(graph: Graph) -> None:
    """The root of a negative number, for one image only: all 255."""
    inner = graph.take_output()
    axes = graph.constant([1, 2, 3], np.int64)
    darkest = graph.add("ReduceMin", [graph.model.graph.input[0].name, axes], keepdims=0)
    room = graph.add("Sub", [graph.constant(0.99 * (1 - MEAN[2]) / STD[2]), darkest])
    root = graph.add("Mul", [graph.add("Sqrt", [room]), graph.constant(0)])
    column = graph.add("Unsqueeze", [root, graph.constant([1], np.int64)])
    graph.give_output(graph.add("Add", [inner, column]))


def constant_output(graph: Graph) -> None:
    inner = graph.take_output()
    graph.give_output(graph.add("Mul", [inner, graph.constant(0)]))


def relu_to(kind: str, index: int, **attributes: float) -> Edit:
    return lambda graph: graph.turn_into(graph.all("Relu")[index], kind, **attributes)


def pool_to(**attributes: object) -> Edit:
    def plant(graph: Graph) -> None:
        for name, value in attributes.items():
            graph.attribute(graph.all("MaxPool")[0], name, value)

    return plant


def conv_to(index: int, **attributes: object) -> Edit:
    def plant(graph: Graph) -> None:
        for name, value in attributes.items():
            graph.attribute(conv(graph, index), name, value)

    return plant


def border_repeated(graph: Graph) -> None:
    node = conv(graph, 1)
    before = next(n for n in graph.nodes if node.input[0] in n.output)
    graph.after(before, "Pad", graph.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64), mode="edge")
    graph.attribute(node, "pads", [0, 0, 0, 0])


def average_pool(graph: Graph) -> None:
    pool = graph.all("MaxPool")[-1]
    graph.turn_into(pool, "AveragePool", kernel_shape=[2, 2], strides=[2, 2])


def clip_at_six(graph: Graph) -> None:
    for relu in list(graph.all("Relu")):
        graph.turn_into(relu, "Clip")
        relu.input.extend([graph.constant(0), graph.constant(6)])


def twice_normalised(graph: Graph) -> None:
    graph.after_input("Div", graph.constant(per_channel(STD)))
    graph.after_input("Sub", graph.constant(per_channel(MEAN)))


def not_normalised(graph: Graph) -> None:
    graph.after_input("Add", graph.constant(per_channel(MEAN)))
    graph.after_input("Mul", graph.constant(per_channel(STD)))


def softmax_once(graph: Graph) -> None:
    graph.after(graph.last(), "Softmax", axis=1)


def softmax_twice(graph: Graph) -> None:
    softmax_once(graph)
    softmax_once(graph)


def bgr(graph: Graph) -> None:
    graph.after_input("Gather", graph.constant([2, 1, 0], np.int64), axis=1)


def lrn_dropped(graph: Graph) -> None:
    graph.turn_into(graph.all("LRN")[0], "Identity")


def lrn_alpha(graph: Graph) -> None:
    graph.attribute(graph.all("LRN")[0], "alpha", 1e-3)


IN_PLAIN: Mapping[str, Edit] = {
    "border repeated instead of padded with zeros": border_repeated,
    "padding on one side only": conv_to(1, pads=[2, 2, 0, 0]),
    "dilated kernel": conv_to(1, dilations=[2, 2], pads=[2, 2, 2, 2]),
    "ReLU dropped behind a convolution": relu_to("Identity", 1),
    "ReLU dropped behind fc7": relu_to("Identity", -1),
    "leaky ReLU": relu_to("LeakyRelu", 2, alpha=0.01),
    "ReLU clipped at 6": clip_at_six,
    "average pool instead of max pool": average_pool,
    "pool window of 3": pool_to(kernel_shape=[3, 3], pads=[0, 0, 1, 1]),
    "pool shifted by one pixel": pool_to(pads=[1, 1, 0, 0]),
    "bias of a convolution lost": lambda g: g.change(conv(g, 1), np.zeros_like, 2),
    "bias of fc8 lost": lambda g: g.change(gemm(g, -1), np.zeros_like, 2),
    "bias of fc7 added twice": lambda g: g.change(gemm(g, -2), lambda b: 2 * b, 2),
    "weights of two layers swapped": swap_weights,
    "exponent bit of one weight flipped": lambda g: g.change(
        conv(g, 0), lambda w: flip_bit(w, 24, 13)
    ),
    "sign of one weight flipped": lambda g: g.change(conv(g, 0), lambda w: flip_bit(w, 31, 13)),
    "fc6 reads its input as NHWC": nhwc,
    "square fc7 transposed": lambda g: g.change(gemm(g, 1), lambda w: w.T),
    "kernels flipped": lambda g: g.change(conv(g, 1), lambda w: w[:, :, ::-1, ::-1]),
    "kernel height and width swapped": lambda g: g.change(
        conv(g, 1), lambda w: w.transpose(0, 1, 3, 2)
    ),
    "softmax instead of logits": softmax_once,
    "softmax twice": softmax_twice,
    "classes in another order": permuted_rows,
    "labels permuted in the file": permuted_metadata,
    "another mean in the file": other_mean_in_metadata,
    "overflow in fp16": overflow,
    "one activation in fp16, called fp32": half_activation,
    "weights of fp16, called fp32": lambda g: g.change(
        conv(g, 1), lambda w: w.astype(np.float16).astype(np.float32)
    ),
    "weights of tf32, called fp32": lambda g: g.change(conv(g, 1), lambda w: to_bits(w, 13)),
    "weights of 8 bits, called fp32": lambda g: g.change(conv(g, 1), to_8_bits),
    "output depends on the batch": batch_dependent,
    "NaN in one image": nan_for_white,
    "constant output": constant_output,
    "channels swapped, BGR": bgr,
    "mean and std applied twice": twice_normalised,
    "mean and std missing": not_normalised,
    "pixels 0..255 instead of 0..1": lambda g: g.after_input("Mul", g.constant(255)),
    "height and width of the image swapped": lambda g: g.after_input(
        "Transpose", perm=[0, 1, 3, 2]
    ),
}
IN_LRN: Mapping[str, Edit] = {
    "local response normalisation dropped": lrn_dropped,
    "local response normalisation with another alpha": lrn_alpha,
}
# 13 pixels become 7 instead of 6, and both 3 in the next pool: the file loads
IN_ODD: Mapping[str, Edit] = {
    "pool in ceil mode": lambda g: g.attribute(g.all("MaxPool")[1], "ceil_mode", 1)
}
