"""The operators an exported VGG may contain: those that every runtime we ship to has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vgg_deploy.errors import RefusedInput

if TYPE_CHECKING:
    import onnx_ir as ir

OPSET = 18  # with IR 8, what ONNX Runtime loads from 1.15 on
IR_VERSION = 8

ALLOWED_OPS = frozenset(
    {
        "Add",
        "AveragePool",
        "Conv",
        "Flatten",
        "Gemm",
        "LRN",
        "MatMul",
        "MaxPool",
        "Relu",
        "Reshape",
    }
)


# What the nodes around the network of an embedded file may be, beside the network's own.
EMBEDDED_OPS = frozenset(
    {
        "Abs",
        "Add",
        "Cast",
        "Div",
        "Floor",
        "Gather",
        "MatMul",
        "Max",
        "Min",
        "Mul",
        "Range",
        "ReduceSum",
        "Relu",
        "Round",
        "Shape",
        "Softmax",
        "Sub",
        "TopK",
        "Transpose",
        "Unsqueeze",
    }
)
# Only right in ONNX Runtime; in a file only where it was asked for.
NATIVE_OPS = frozenset({"Concat", "Resize", "Slice"})


def check_embedded(
    model: ir.Model, network: set[tuple[str, str]], resize: str, opset: int = OPSET
) -> None:
    """The policy of an embedded file: ``network`` holds domain and operator of the plain file.

    ``opset`` is that of its precision: fp8 and bf16 need a later one.
    """
    added = EMBEDDED_OPS | (NATIVE_OPS if resize == "native" else frozenset())
    for node in model.graph:
        if node.domain or (node.op_type not in added and ("", node.op_type) not in network):
            raise _refused(f"node {node.name} is the operator {node.domain}::{node.op_type}")
    check_whole(model, opset)


def check_policy(model: ir.Model) -> None:
    """Raise ``RefusedInput`` with the name of the first node that is not on the list.

    Functions and subgraphs are refused too: small runtimes read neither.
    """
    for node in model.graph:
        name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        if name not in ALLOWED_OPS:
            raise _refused(f"node {node.name} is the operator {name}")
        if _is_pointless_pool(node):
            raise _refused(f"node {node.name} is an AveragePool of 1×1")
    check_whole(model)


def check_whole(model: ir.Model, opset: int = OPSET) -> None:
    """No functions, and the one operator set."""
    if model.functions:
        raise _refused(f"it has {len(model.functions)} model functions")
    if dict(model.opset_imports) != {"": opset}:
        raise _refused(f"its operator sets are {dict(model.opset_imports)}")


def _is_pointless_pool(node: ir.Node) -> bool:
    if node.op_type != "AveragePool":
        return False
    return all(side == 1 for side in node.attributes["kernel_shape"].as_ints())


def _refused(what: str) -> RefusedInput:
    return RefusedInput(
        f"the exported graph is not one that every runtime reads: {what}",
        "use the torch and onnxscript of constraints.txt, or export torchscript or program",
    )
