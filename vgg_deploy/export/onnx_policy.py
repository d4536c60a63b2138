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
    if model.functions:
        raise _refused(f"it has {len(model.functions)} model functions")
    if dict(model.opset_imports) != {"": OPSET}:
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
