"""What an engine really computes: its layers, their kernels and the precision each one has.

Read from the engine inspector's JSON where the engine can be opened (that needs its GPU), else from
the table that the builder logs about the finished engine. Both are made by TensorRT, not by us.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.trt.flavour import Traits

Source = Literal["engine inspector", "builder log"]

# TensorRT's words for a type, in the inspector of 8.6 to 11 and in the builder's log.
_TYPES: Mapping[str, str] = {
    "float": "fp32",
    "fp32": "fp32",
    "half": "fp16",
    "fp16": "fp16",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "int8": "int8",
    "fp8": "fp8",
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
}
# Kinds of layers that multiply weights, in the words of 8.6 ("CaskConvolution") and later.
_PRODUCTS = ("conv", "correlation", "gemm", "matrix", "matmul", "runtime_fusion")
_LOGGED = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>.*?), Inputs: (?P<inputs>.*?), "
    r"(?:Constants: (?P<constants>.*?), )?Outputs: (?P<outputs>.*?), "
    r"TacticName: (?P<tactic>.*?), StreamId: \d+, Metadata: (?P<metadata>.*)$",
    re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a built engine."""

    name: str
    kind: str
    tactic: str  # the kernel; empty where TensorRT names none
    inputs: tuple[str, ...]  # a type per tensor: "fp16"
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]  # ONNX nodes it computes


@dataclass(frozen=True, kw_only=True)
class EngineNotes:
    """What is known of one build beside its manifest entry; kept beside the plan."""

    sha256: str  # of the plan that this describes
    made_at: str
    seconds: float  # of build_serialized_network
    source: Source
    layers: tuple[Layer, ...]
    warnings: tuple[str, ...]  # what the builder warned of

    def computed_in(self) -> Mapping[str, int]:
        """Convolutions and matrix products by the type of their first input.

        TensorRT lists a layer once per profile (``conv1 [profile 1]``); what computes the same ONNX
        nodes in the same type counts once.
        """
        products = (layer for layer in self.layers if _is_product(layer))
        found = dict.fromkeys((p.nodes or (p.name,), p.inputs[0]) for p in products)
        return Counter(kind for _, kind in found)


def from_inspector(text: str, traits: Traits) -> tuple[Layer, ...]:
    """Layers of the engine inspector's JSON; names alone where verbosity was not detailed."""
    try:
        found = json.loads(text)
        return tuple(_inspected(layer, traits.type_key) for layer in found["Layers"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendNotAvailable(
            f"{traits.label}'s engine inspector gave something else than layers: {error!r}",
            "report this with the TensorRT version",
        ) from error


def from_log(text: str) -> tuple[Layer, ...]:
    """Layers of the table that the builder logs."""
    return tuple(
        Layer(
            name=match["name"],
            kind=match["kind"],
            tactic=match["tactic"],
            inputs=_types(re.findall(r"Datatype: (\w+)", match["inputs"])),
            outputs=_types(re.findall(r"Datatype: (\w+)", match["outputs"])),
            nodes=_nodes(match["metadata"]),
        )
        for match in _LOGGED.finditer(text)
    )


def _inspected(layer: Any, type_key: str) -> Layer:
    if isinstance(layer, str):
        return Layer(name=layer, kind="", tactic="", inputs=(), outputs=(), nodes=())
    return Layer(
        name=str(layer["Name"]),
        kind=str(layer.get("LayerType", "")),
        tactic=str(layer.get("TacticName", "")),
        inputs=_types([_type_of(tensor, type_key) for tensor in layer.get("Inputs", ())]),
        outputs=_types([_type_of(tensor, type_key) for tensor in layer.get("Outputs", ())]),
        nodes=_nodes(str(layer.get("Metadata", ""))),
    )


def _type_of(tensor: Mapping[str, Any], key: str) -> str:
    """``"Half"``, or the last word of ``"Channel major FP16 format where channel % 8 == 0"``."""
    text = str(tensor.get(key) or tensor.get("Format/Datatype") or tensor.get("Datatype") or "")
    known = [word for word in re.findall(r"[A-Za-z]+\d*", text) if word.lower() in _TYPES]
    return known[0] if known else text


def _types(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(_TYPES.get(word.lower(), word) for word in words)


def _nodes(metadata: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\[ONNX Layer: ([^\]]*)\]", metadata))


def _is_product(layer: Layer) -> bool:
    return bool(layer.inputs) and any(kind in layer.kind.lower() for kind in _PRODUCTS)
