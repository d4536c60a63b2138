"""One self-contained ONNX file that runs everywhere: opset 18, IR 8, plain operators."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgg_deploy import jsonio
from vgg_deploy.environment import versions
from vgg_deploy.errors import RefusedInput
from vgg_deploy.export.guard import quiet
from vgg_deploy.export.onnx_policy import IR_VERSION, OPSET, check_policy
from vgg_deploy.export.source import ExportOptions, Source

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

PRODUCER = "vgg-deploy"
METADATA_PREFIX = "vgg_deploy."
_TOOLS = ("vgg-deploy", "torch", "onnx", "onnx-ir", "onnxscript")


def made_by(_options: ExportOptions) -> dict[str, str]:
    """Versions and options that shape the file."""
    return tool_versions() | {"opset": str(OPSET), "ir_version": str(IR_VERSION)}


def tool_versions() -> dict[str, str]:
    """Versions of what writes an ONNX file."""
    return versions(*_TOOLS)


def metadata(source: Source) -> dict[str, str]:
    """The model-level metadata: each value is one JSON document."""
    card = source.card
    values = {
        "arch": jsonio.dumps(card.spec, indent=None),
        "labels": jsonio.dumps(card.labels, indent=None),
        "preprocessing": jsonio.dumps(card.preprocessing, indent=None),
        "weights_sha256": json.dumps(source.sha256),
        "versions": json.dumps(dict(sorted(source.made_by.items()))),
        "precision": json.dumps("fp32"),
    }
    return {METADATA_PREFIX + key: value for key, value in values.items()}


def write(source: Source, path: Path) -> None:
    """Export, reduce to what every runtime reads, write, and check the bytes on disk."""
    from vgg_deploy.export.onnx_file import check_size, write_model

    check_size(source.path.stat().st_size)
    model = _traced(source)
    _flatten_reshapes(model)
    _strip(model)
    model.ir_version = IR_VERSION
    model.producer_name = PRODUCER
    model.producer_version = source.made_by.get(PRODUCER)
    model.metadata_props.update(metadata(source))
    check_policy(model)
    write_model(model, path)
    del model
    gc.collect()  # the weights leave memory before the checker reads its own copy
    check_file(path)


def _traced(source: Source) -> ir.Model:
    """The graph as torch's exporter makes it: batch norm folded, no dropout, batch dynamic."""
    import torch

    model = source.model()
    _use_lrn_operator(model)
    with quiet("torch.onnx"):
        program = torch.onnx.export(
            model,
            (source.example(),),
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=["input"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            optimize=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter made nothing")
    return program.model


def _use_lrn_operator(model: nn.Module) -> None:
    """Trace local response normalisation as the one operator that it is in ONNX.

    torch spells it as a padded 3-d average pool, which several runtimes do not have.
    """
    import torch
    from torch import nn

    class Lrn(nn.Module):
        def __init__(self, norm: nn.LocalResponseNorm) -> None:
            super().__init__()
            self.attributes: dict[str, Any] = {
                "size": norm.size,
                "alpha": norm.alpha,
                "beta": norm.beta,
                "bias": norm.k,
            }

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.onnx.ops.symbolic(
                "LRN", (x,), self.attributes, dtype=x.dtype, shape=x.shape, version=OPSET
            )

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.LocalResponseNorm):
                setattr(parent, name, Lrn(child))


def _flatten_reshapes(model: ir.Model) -> None:
    """``Reshape`` to ``[batch, features]`` becomes ``Flatten``, which needs no shape tensor."""
    import onnx_ir as ir

    graph = model.graph
    for node in graph:
        output = node.outputs[0]
        if node.op_type != "Reshape" or output.shape is None or len(output.shape) != 2:
            continue
        target = node.inputs[1]
        node.resize_inputs(1)
        node.op_type = "Flatten"
        node.attributes.clear()
        node.attributes.add(ir.AttrInt64("axis", 1))
        if target is not None and target.name and not target.uses():
            graph.initializers.pop(target.name, None)


def _strip(model: ir.Model) -> None:
    """Remove shapes of inner values, and all notes: they hold source paths of this machine."""
    graph = model.graph
    inner = [value for node in graph for value in node.outputs if not value.is_graph_output()]
    values = [*inner, *graph.inputs, *graph.outputs, *graph.initializers.values()]
    for value in inner:
        value.shape = None  # tract refuses value_info
        value.type = None
    for item in (model, graph, *graph, *values):
        item.metadata_props.clear()
        item.doc_string = None
    graph.name = "vgg"


def check_file(path: Path) -> None:
    """onnx's own full check of the file: schema, types and strict shape inference."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise RefusedInput(
            f"the exported file is not valid ONNX: {error}",
            "use the torch and onnxscript of constraints.txt",
        ) from error
