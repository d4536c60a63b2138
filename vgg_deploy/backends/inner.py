"""Inner tensors of torch's formats: what a program or a script has behind one of its stages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgg_deploy.artifact import Artifact
from vgg_deploy.backends.base import Array
from vgg_deploy.backends.networks import load_program, load_script
from vgg_deploy.errors import BackendNotAvailable, RefusedInput

if TYPE_CHECKING:
    import torch

_POOL, _PRODUCT = "max_pool2d", ("linear", "addmm")


def inner_stages(artifact: Artifact, path: Path, batch: Array, names: tuple[str, ...]) -> Any:
    """Outputs ``[N, features]`` by stage name of a program or a TorchScript file.

    Raises ``BackendNotAvailable`` for formats that show no inner tensor, ``RefusedInput`` for a
    graph that has not the stages of its network.
    """
    if artifact.format == "program":
        return _program(path, batch, names)
    if artifact.format == "torchscript":
        return _script(path, batch, names)
    raise BackendNotAvailable(
        f"a file of the format {artifact.format} shows no inner tensors",
        "locate in the file that it was made from",
    )


def _program(path: Path, batch: Array, names: tuple[str, ...]) -> dict[str, Array]:
    import torch
    from torch import fx

    module: Any = load_program(path)
    kept: list[tuple[str, torch.Tensor]] = []

    class Keeping(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n.op == "call_function":
                kept.append((str(n.target), value.clone() if torch.is_tensor(value) else value))
            return value

    with torch.inference_mode():
        Keeping(module).run(torch.from_numpy(batch))
    return _named(kept, names)


def _script(path: Path, batch: Array, names: tuple[str, ...]) -> dict[str, Array]:
    """The frozen graph's stages become its outputs; the file itself is not touched."""
    import torch

    module: Any = load_script(path)
    graph = module.graph
    torch._C._jit_pass_remove_mutation(graph)  # ReLU works in place
    found = [
        (node.kind(), node.output())
        for node in graph.nodes()
        if _POOL in node.kind() or node.kind().endswith(_PRODUCT)
    ]
    for _, value in found:
        graph.registerOutput(value)
    graph.eraseOutput(0)
    graph.makeMultiOutputIntoTuple()
    run = torch._C._create_function_from_graph("stages", graph)
    with torch.inference_mode():
        values = run(module._c, torch.from_numpy(batch))
    return _named([(kind, v) for (kind, _), v in zip(found, values, strict=True)], names)


def _named(values: list[tuple[str, Any]], names: tuple[str, ...]) -> dict[str, Array]:
    pools = [value for kind, value in values if _POOL in kind]
    layers = sum(not name.startswith("pool") for name in names)
    products = [v for kind, v in values if any(p in kind for p in _PRODUCT)][-layers:]
    if len(pools) + len(products) != len(names):
        raise RefusedInput(
            f"the graph has {len(pools)} max pools and {len(products)} products, its network has "
            f"{len(names) - layers} and {layers}",
            "that is a finding by itself: export the file again",
        )
    found = [*pools, *products]
    return {n: v.flatten(1).numpy().copy() for n, v in zip(names, found, strict=True)}
