"""Which layer of the network a runtime's operators are, by their order: VGG is a chain."""

from __future__ import annotations

from collections.abc import Sequence

from vgg_deploy.model.layers import Layer
from vgg_deploy.results import LayerTiming

# One run of a network: operator type and nanoseconds, in order.
Trace = Sequence[tuple[str, int]]
OTHER = "other"
_AVERAGE = "avgpool"  # two products in front of the others where windows are of several sizes
_KINDS = {
    "conv": ("Conv", "FusedConv", "QLinearConv", "ConvInteger"),
    "fc": ("Gemm", "FusedGemm", "MatMul", "FusedMatMul", "QGemm", "QLinearMatMul",
           "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
    "pool": ("MaxPool", "NhwcMaxPool", "AveragePool", "GlobalAveragePool", "QLinearAveragePool"),
}  # fmt: skip
_KIND_OF = {operator: kind for kind, operators in _KINDS.items() for operator in operators}


def layer_timings(layers: Sequence[Layer], traces: Sequence[Trace]) -> tuple[LayerTiming, ...]:
    """Durations per layer; what is no layer's (reorders, casts, softmax) is ``other``.

    ``ValueError`` when the runtime has more or fewer convolutions or products than the network.
    """
    found: dict[str, list[int]] = {layer.name: [] for layer in layers if layer.kind in _KINDS}
    found[OTHER] = []
    for trace in traces:
        _add(layers, trace, found)
    return tuple(
        LayerTiming(name=name, samples_ns=tuple(samples))
        for name, samples in found.items()
        if samples
    )


def _add(layers: Sequence[Layer], trace: Trace, found: dict[str, list[int]]) -> None:
    other = 0
    names = {kind: [layer.name for layer in layers if layer.kind == kind] for kind in _KINDS}
    times = {kind: [ns for op, ns in trace if _KIND_OF.get(op) == kind] for kind in _KINDS}
    if _AVERAGE in names["pool"] and len(times["fc"]) == len(names["fc"]) + 2:
        names["pool"].remove(_AVERAGE)
        found[_AVERAGE].append(sum(times["fc"][:2]))
        del times["fc"][:2]
    for kind, durations in times.items():
        if len(names[kind]) == len(durations):
            for name, ns in zip(names[kind], durations, strict=True):
                found[name].append(ns)
        elif kind == "pool":  # some runtimes fuse or drop one
            other += sum(durations)
        else:
            raise ValueError(f"{len(durations)} operators for {len(names[kind])} {kind} layers")
    found[OTHER].append(other + sum(ns for operator, ns in trace if operator not in _KIND_OF))
