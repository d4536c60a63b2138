"""Editing an ONNX graph as a buggy exporter would have written it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]


class Graph:
    """A model under the knife: nodes by kind, weights by layer, nodes put in between."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = model.graph.node
        self._made = 0

    def all(self, *kinds: str) -> list[onnx.NodeProto]:
        """Nodes of these kinds in order."""
        return [node for node in self.nodes if node.op_type in kinds]

    def weight(self, node: onnx.NodeProto, index: int = 1) -> Array:
        """An input of a node that is a constant: 1 is the kernel, 2 the bias."""
        return np.array(numpy_helper.to_array(self._initializer(node.input[index])))

    def set_weight(self, node: onnx.NodeProto, values: Array, index: int = 1) -> None:
        """Replace such an input."""
        held = self._initializer(node.input[index])
        held.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), held.name))

    def change(self, node: onnx.NodeProto, edit: Callable[[Array], Array], index: int = 1) -> None:
        """Edit such an input."""
        self.set_weight(node, edit(self.weight(node, index)), index)

    def constant(self, values: Any, dtype: type[np.generic] = np.float32) -> str:
        """A new constant; its name."""
        name = self._name("constant")
        array: Array = np.asarray(values, dtype)
        self.model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def attribute(self, node: onnx.NodeProto, name: str, value: object) -> None:
        """Set an attribute."""
        kept = [a for a in node.attribute if a.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    def turn_into(self, node: onnx.NodeProto, kind: str, **attributes: Any) -> None:
        """Another operator of the same inputs."""
        node.op_type = kind
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())

    def after_input(self, kind: str, *others: str, **attributes: Any) -> None:
        """Put a node between the graph's input and its first users."""
        name = self.model.graph.input[0].name
        output = self._name("input")
        for node in self.nodes:
            for i, given in enumerate(node.input):
                if given == name:
                    node.input[i] = output
        made = helper.make_node(kind, [name, *others], [output], **attributes)
        self.nodes.insert(0, made)

    def after(self, node: onnx.NodeProto, kind: str, *others: str, **attributes: Any) -> None:
        """Put a node behind another one; what used the old output uses the new one."""
        output, inner = node.output[0], self._name("inner")
        node.output[0] = inner
        made = helper.make_node(kind, [inner, *others], [output], **attributes)
        self.nodes.insert(list(self.nodes).index(node) + 1, made)

    def last(self) -> onnx.NodeProto:
        """The node that makes the logits."""
        wanted = self.model.graph.output[0].name
        (found,) = (node for node in self.nodes if wanted in node.output)
        made: onnx.NodeProto = found
        return made

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """A node at the end; the name of its output."""
        output = self._name("added")
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def give_output(self, result: str) -> None:
        """Make ``result`` the graph's output, after ``take_output``."""
        name = self.model.graph.output[0].name
        self.nodes.append(helper.make_node("Identity", [result], [name]))

    def take_output(self) -> str:
        """Give the logits another name, for ``give_output`` to put something there."""
        node, inner = self.last(), self._name("logits")
        node.output[0] = inner
        return inner

    def _initializer(self, name: str) -> onnx.TensorProto:
        (found,) = (w for w in self.model.graph.initializer if w.name == name)
        held: onnx.TensorProto = found
        return held

    def _name(self, stem: str) -> str:
        self._made += 1
        return f"planted_{stem}_{self._made}"
