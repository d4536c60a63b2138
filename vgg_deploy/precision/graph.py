"""An ONNX model in memory: record what it became, check and write.

Plain ``onnx`` messages: every result is at most half as large as the fp32 file it is made from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.artifact import Precision
from vgg_deploy.errors import RefusedInput

if TYPE_CHECKING:
    import onnx

METADATA_PREFIX = "vgg_deploy."
NEEDS = "needs"  # what a runtime has to be told to read the file


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The oldest operator set and file format whose types suffice for a precision."""

    opset: int
    ir_version: int


# 18 and 8 load everywhere. Float8 came with opset 19 and IR 9; Conv and MaxPool take bfloat16
# only from opset 22 on, which came with IR 10.
DIALECTS: Mapping[Precision, Dialect] = {
    "fp16": Dialect(opset=18, ir_version=8),
    "int8": Dialect(opset=18, ir_version=8),
    "fp8": Dialect(opset=19, ir_version=9),
    "bf16": Dialect(opset=22, ir_version=10),
}


def finish(model: onnx.ModelProto, precision: Precision, notes: Mapping[str, str]) -> None:
    """Set operator set, file format and the metadata that say what ``model`` now is.

    ``notes`` are values of ``made_by``; the fp32 file's other metadata stay.
    """
    dialect = DIALECTS[precision]
    model.ir_version = dialect.ir_version
    model.opset_import[0].version = dialect.opset
    entries = {entry.key: entry for entry in model.metadata_props}
    values = {
        "precision": json.dumps(precision),
        "made_by": json.dumps(dict(sorted(notes.items()))),
    }
    if NEEDS in notes:
        values[NEEDS] = json.dumps(notes[NEEDS])
    for name, value in values.items():
        key = METADATA_PREFIX + name
        entry = entries.get(key) or model.metadata_props.add(key=key)
        entry.value = value


def write(model: onnx.ModelProto, path: Path) -> None:
    """Write the model, then let onnx check the bytes on disk: schema, types, shapes."""
    import onnx

    path.write_bytes(model.SerializeToString(deterministic=True))
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise RefusedInput(
            f"the converted file is not valid ONNX: {error}", "use the onnx of constraints.txt"
        ) from error


def weights(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """The initializers by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def array_of(tensor: onnx.TensorProto) -> NDArray[Any]:
    """The values of an initializer."""
    from onnx import numpy_helper

    array: NDArray[Any] = numpy_helper.to_array(tensor)
    return array


def set_array(tensor: onnx.TensorProto, values: NDArray[Any], data_type: int) -> None:
    """Replace an initializer's values, little-endian as ONNX has them."""
    little = np.ascontiguousarray(values)
    tensor.ClearField("float_data")
    tensor.data_type = data_type
    tensor.raw_data = little.astype(little.dtype.newbyteorder("<"), copy=False).tobytes()


def layer_of(model: onnx.ModelProto, tensor: str) -> str:
    """The layer that makes a tensor, for people: ``Conv blocks.0.0``."""
    known = weights(model)
    for node in model.graph.node:
        if tensor in node.output:
            named = [name.removesuffix(".weight") for name in node.input if name in known]
            return f"{node.op_type} {named[0] if named else node.name}"
    return f"the input {tensor}"


def layers(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes that multiply with weights: convolutions and fully connected layers."""
    known = weights(model)
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm") and node.input[1] in known:
            yield node
