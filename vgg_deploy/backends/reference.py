"""The yardsticks: a checkpoint in float64, and torch eager in every precision.

Eager at a lower precision is emulated, so that it is the same on every machine: torch's float32
kernels between values that are rounded to that precision. fp16 and bf16 round the input, the
parameters and the output of every layer, sums stay in float32: what tensor cores and half
precision runtimes do. tf32 rounds the operands of every product to ten bits of mantissa and
nothing else, as Ampere's tensor cores do. ``scripts/calibrate_tolerance.py`` compares the
emulation with torch's own half-precision kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vgg_deploy.artifact import Precision
from vgg_deploy.backends.base import Array
from vgg_deploy.backends.pytorch import exact_float32
from vgg_deploy.spec import ModelSpec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from vgg_deploy.model.vgg import VGG

CHUNK = 8  # images at a time: VGG-16 at 224 px in float64 takes about 0.1 GB for each
EMULATED: tuple[Precision, ...] = ("tf32", "fp16", "bf16")
_TF32_DROPPED = 13  # of float32's 23 bits of mantissa


def reference(
    checkpoint_path: Path,
    batch: Array,
    *,
    chunk: int = CHUNK,
    on_batch: Callable[[int], None] = lambda _: None,
) -> Array:
    """Float64 logits ``[N, classes]`` of a checkpoint for float32 ``[N, C, H, W]``.

    Torch on the CPU, float64 throughout, ``chunk`` images at a time: VGG-16 at 224 px needs
    1.1 GB for its weights and about 0.1 GB per image of a chunk. ``ValueError`` for an empty
    batch; ``RefusedInput`` for a file that is no checkpoint.
    """
    from vgg_deploy.model.checkpoint import load_model

    if batch.shape[0] == 0 or chunk < 1:
        raise ValueError(f"nothing to compute: batch {batch.shape}, chunk {chunk}")
    network = load_model(checkpoint_path).double()
    return _logits(network, batch.astype(np.float64), chunk, on_batch)


def eager(
    checkpoint_path: Path,
    batch: Array,
    precision: Precision = "fp32",
    *,
    chunk: int = CHUNK,
    on_batch: Callable[[int], None] = lambda _: None,
) -> Array:
    """Torch eager's logits ``[N, classes]`` at a precision; float32, also where it is emulated."""
    with _network(checkpoint_path, precision) as network:
        return _logits(network, batch, chunk, on_batch)


def eager_blocks(
    checkpoint_path: Path, blocks: Iterable[Array], *, on_batch: Callable[[int], None]
) -> Iterator[Array]:
    """``eager`` in fp32 of one block after the other, so that the caller need not hold them all."""
    with _network(checkpoint_path, "fp32") as network:
        for block in blocks:
            yield _logits(network, block, CHUNK, on_batch)


def stages(
    checkpoint_path: Path, batch: Array, precision: Precision | None = None
) -> Mapping[str, Array]:
    """Outputs of ``pool1 …``, ``fc6 …`` by name, flattened: ``[N, features]``.

    Fully connected layers are taken before their ReLU. ``precision`` None is float64.
    """
    with _network(checkpoint_path, precision) as network:
        kept: dict[str, Array] = {}
        for name, module in _stage_modules(network).items():
            module.register_forward_hook(_keep(kept, name))
        parts: dict[str, list[Array]] = {}
        given = batch.astype(np.float64) if precision is None else batch
        for start in range(0, len(given), CHUNK):
            _logits(network, given[start : start + CHUNK], CHUNK, lambda _: None)
            for name, value in kept.items():
                parts.setdefault(name, []).append(value)
    return {name: np.concatenate(values) for name, values in parts.items()}


def stage_names(spec: ModelSpec) -> tuple[str, ...]:
    """Names of the stages of a network, in order."""
    return (*(f"pool{i}" for i, _ in enumerate(spec.conv_arch, start=1)), *spec.fc_layers)


def rounded(tensor: torch.Tensor, precision: Precision) -> torch.Tensor:
    """A float32 tensor with its values rounded to a precision, ties to even."""
    import torch

    if precision == "tf32":
        bits = tensor.contiguous().view(torch.int32)
        odd = (bits >> _TF32_DROPPED) & 1
        half = (1 << (_TF32_DROPPED - 1)) - 1
        return ((bits + half + odd) & ~((1 << _TF32_DROPPED) - 1)).view(torch.float32)
    kinds = {"fp16": torch.float16, "bf16": torch.bfloat16}
    return tensor.to(kinds[precision]).float()


@contextmanager
def _network(checkpoint_path: Path, precision: Precision | None) -> Iterator[VGG]:
    """The network at a precision; None is float64. int8 and fp8 have no eager: fp32 it is."""
    import torch

    from vgg_deploy.model.checkpoint import load_model

    exact_float32()
    network = load_model(checkpoint_path).requires_grad_(False)
    if precision is None:
        network.double()
    elif precision in EMULATED:
        _emulate(network, precision)
    else:
        network.to(memory_format=torch.channels_last)
    yield network


def _emulate(network: nn.Module, precision: Precision) -> None:
    from torch import nn

    from vgg_deploy.model.vgg import WindowMeans

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | WindowMeans):
            layer.weight.copy_(rounded(layer.weight, precision))
            layer.register_forward_pre_hook(lambda _, given: (rounded(given[0], precision),))
        if precision == "tf32":
            continue
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            layer.bias.copy_(rounded(layer.bias, precision))
        if not list(layer.children()):
            layer.register_forward_hook(lambda *seen: rounded(seen[2], precision))


def _logits(network: nn.Module, batch: Array, chunk: int, on_batch: Callable[[int], None]) -> Array:
    import torch

    parts: list[Array] = []
    with torch.inference_mode():
        for start in range(0, batch.shape[0], chunk):
            images = torch.from_numpy(np.ascontiguousarray(batch[start : start + chunk]))
            parts.append(network(images).numpy())
            on_batch(len(images))
    logits: Array = np.concatenate(parts)
    return logits


def _stage_modules(network: VGG) -> Mapping[str, nn.Module]:
    modules: Sequence[nn.Module] = [
        *(block[-1] for block in network.blocks),  # type: ignore[index]
        *(network.head.get_submodule(name) for name in network.spec.fc_layers),
    ]
    return dict(zip(stage_names(network.spec), modules, strict=True))


def _keep(kept: dict[str, Array], name: str) -> Callable[[nn.Module, object, torch.Tensor], None]:
    def hook(_module: nn.Module, _given: object, output: torch.Tensor) -> None:
        kept[name] = output.flatten(1).numpy().copy()  # the ReLU behind it works in place

    return hook
