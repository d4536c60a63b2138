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
_PRODUCTS = ("conv", "correlation", "fully", "gemm", "matrix", "matmul", "runtime_fusion")
# A kernel that Myelin generated is named after what it does, in order: "__myl_CastReshMulSumAdd".
_GENERATED = re.compile(r"^__myl_(?P<before>[A-Za-z]*?)(?:MulSum|Fc|Corr)")
_PROFILE = re.compile(r"\[profile (\d+)\]")  # none: the first
_GRAPH = re.compile(r"_myl(\d+)_\d+$")  # one of Myelin's graphs; each has layers of one profile
_LOGGED = re.compile(
    r"^Name: (?P<name>.*?), LayerType: (?P<kind>.*?), Inputs: (?P<inputs>.*?), "
    r"(?:Constants: (?P<constants>.*?), )?Outputs: (?P<outputs>.*?), "
    r"TacticName: (?P<tactic>.*?), StreamId: \d+, Metadata: (?P<metadata>.*)$",
    re.MULTILINE,
)
# 8.6: "Layer(CaskConvolution): conv + relu, Tactic: 0x47, input[Half(1,3,4,4)] -> relu_out[…]".
_LOGGED_BY_8 = re.compile(
    r"^Layer\((?P<kind>[^)\n]*)\): (?P<name>.*), Tactic: \w+, (?P<inputs>.*?) ?-> (?P<outputs>.*)$",
    re.MULTILINE,
)
_TYPE_OF_8 = re.compile(r"\[([A-Za-z]+\d*)\(")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a built engine."""

    name: str
    kind: str
    tactic: str  # the kernel; empty where TensorRT names none
    inputs: tuple[str, ...]  # a type per tensor: "fp16"
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]  # ONNX nodes it computes
    constants: tuple[str, ...] = ()  # types of weights and other constants


@dataclass(frozen=True, kw_only=True)
class EngineNotes:
    """What is known of one build beside its manifest entry; kept beside the plan."""

    sha256: str  # of the plan that this describes
    made_at: str
    seconds: float  # of build_serialized_network
    source: Source
    layers: tuple[Layer, ...]
    warnings: tuple[str, ...]  # what the builder warned of
    products: tuple[str, ...] = ()  # convolutions and matrix products of the ONNX file, by name

    def computed_in(self) -> Mapping[str, int]:
        """Convolutions and matrix products by the type that is multiplied.

        One that several profiles compute in the same type counts once.
        """
        found = [pair for each in self._found() for pair in each.items()]
        return Counter(kind for _, kind in dict.fromkeys(found))

    def computed_by_profile(self) -> tuple[Mapping[str, int], ...]:
        """The same for each optimization profile, whose kernels may differ."""
        return tuple(Counter(each.values()) for each in self._found())

    def _found(self) -> list[dict[str, str]]:
        """Per profile the type of each product that some layer computes; the first such layer."""
        profiles = _profiles(self.layers)
        found: list[dict[str, str]] = [{} for _ in range(max(profiles, default=0) + 1)]
        for profile, layer in zip(profiles, self.layers, strict=True):
            if kind := _multiplies(layer):
                nodes = layer.nodes or tuple(_PROFILE.sub("", layer.name).split(" + "))
                names = [n.strip() for n in nodes if n.strip() in self.products]
                for name in names if self.products else [" + ".join(nodes)]:
                    found[profile].setdefault(name, kind)
        return found


def from_inspector(text: str, traits: Traits) -> tuple[Layer, ...]:
    """Layers of the engine inspector's JSON; names alone where verbosity was not detailed."""
    try:
        found = json.loads(text, strict=False)  # 8.6 parts ONNX nodes by a bare \x1e
        return tuple(_inspected(layer, traits.type_key) for layer in found["Layers"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackendNotAvailable(
            f"{traits.label}'s engine inspector gave something else than layers: {error!r}",
            "report this with the TensorRT version",
        ) from error


def from_log(text: str) -> tuple[Layer, ...]:
    """Layers of the table that the builder logs; that of 8.6 names no kernels and no ONNX nodes."""
    later = tuple(
        Layer(
            name=match["name"],
            kind=match["kind"],
            tactic=match["tactic"],
            inputs=_types_in(match["inputs"]),
            outputs=_types_in(match["outputs"]),
            nodes=_nodes(match["metadata"]),
            constants=_types_in(match["constants"] or ""),
        )
        for match in _LOGGED.finditer(text)
    )
    return later or tuple(
        Layer(
            name=match["name"],
            kind=match["kind"],
            tactic="",
            inputs=_types(_TYPE_OF_8.findall(match["inputs"])),
            outputs=_types(_TYPE_OF_8.findall(match["outputs"])),
            nodes=(),
        )
        for match in _LOGGED_BY_8.finditer(text)
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
        constants=_types([_type_of(tensor, type_key) for tensor in _constants(layer)]),
    )


def _constants(layer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Not every version lists them, nor need they look like tensors."""
    found = layer.get("Constants")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _type_of(tensor: Mapping[str, Any], key: str) -> str:
    """TensorRT's word for the type of a tensor."""
    return _word(
        str(tensor.get(key) or tensor.get("Format/Datatype") or tensor.get("Datatype") or "")
    )


def _word(text: str) -> str:
    """``"Half"``, or ``"FP16"`` of ``"Channel major FP16 format where channel % 8 == 0"``.

    Of a type that is not known the word in its place, as in ``"Row major linear UInt8"``.
    """
    known = [word for word in re.findall(r"[A-Za-z]+\d*", text) if word.lower() in _TYPES]
    return known[0] if known else text.partition(" format")[0].rpartition(" ")[2]


def _types_in(tensors: str) -> tuple[str, ...]:
    """Of tensors as the builder logs them: ``"{ Name: x, Dimensions: [1], Datatype: Half }"``."""
    found = re.findall(r"Datatype: ([^,}\n]+)", tensors)
    return _types([_word(text.strip()) for text in found])


def _types(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(_TYPES.get(word.lower(), word) for word in words)


def _nodes(metadata: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\[ONNX Layer: ([^\]]*)\]", metadata))


def _profiles(layers: Sequence[Layer]) -> list[int]:
    """Of which profile each layer is; a generated name tells it of its neighbours at most."""
    own = [_PROFILE.search(layer.name) for layer in layers]
    graphs = [_GRAPH.search(layer.name) for layer in layers]
    known = {g[1]: int(p[1]) for g, p in zip(graphs, own, strict=True) if g and p}
    return [
        int(p[1]) if p else known.get(g[1], 0) if g else 0 for g, p in zip(graphs, own, strict=True)
    ]


def _multiplies(layer: Layer) -> str | None:
    """The type that a convolution or matrix product is computed in; None for other layers.

    That of the first input, or of the weights where a generated kernel casts before it multiplies.
    """
    generated = _GENERATED.match(layer.name)
    if not layer.inputs or not (generated or any(k in layer.kind.lower() for k in _PRODUCTS)):
        return None
    if generated and "Cast" in generated["before"]:
        return layer.constants[0] if len(set(layer.constants)) == 1 else None
    return layer.inputs[0]
