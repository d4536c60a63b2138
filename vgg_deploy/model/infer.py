"""The spec of a state dict: what its architecture's name leaves open is read off its tensors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vgg_deploy.errors import RefusedInput, UsageError
from vgg_deploy.model.keys import State, classifier_layers, slides, to_ours
from vgg_deploy.spec import Head, ModelSpec, fc_layers

if TYPE_CHECKING:
    from torch import Tensor


def infer_spec(
    state: State,
    arch: str,
    *,
    size: int | None = None,
    head: Head | None = None,
    ceil_mode: bool = False,
) -> ModelSpec:
    """Spec of a state dict whose architecture is known: width, channels, classes and head.

    The input size is not in the weights: without ``size`` it is the one the head's flatten
    expects. Tensors of another architecture are left to ``fitted``, which says what differs;
    ``RefusedInput`` for a head that ``ModelSpec`` has not.
    """
    spec = ModelSpec.named(arch, size=224 if size is None else size, ceil_mode=ceil_mode)
    ours = to_ours(spec, state)
    first = ours.get("blocks.0.0.weight")
    if first is None or first.ndim != 4:
        return spec
    width = _width(spec, ours, first.shape[0])
    spec = _read(spec, width=width, channels=first.shape[1])
    alike = sum(v.ndim == 4 for v in ours.values()) == sum(n for n, _ in spec.conv_arch)
    fc = _matrices(spec, ours) if alike else _named(ours)
    if not fc:
        return spec
    spec = _read(spec, hidden=len(fc) - 1, classes=fc[-1].shape[0])
    if len(fc) > 1:
        spec = _read(spec, fc_width=_one_width(spec, fc) if alike else fc[0].shape[0])
    if not alike:
        return spec
    spec = _placed(spec, fc[0].shape[1], size, head)
    if (side := spec.map_sizes[-1]) > 7 and slides(state):
        raise RefusedInput(
            f"this head slides over a map of {side}×{side}, and only 7×7 is supported",
            f"use --size {7 * _shrinks(spec)}, or train a network of that size: vgg-deploy train",
        )
    return spec


def _read(spec: ModelSpec, **shapes: float) -> ModelSpec:
    """``spec`` with what the weights' shapes tell; ``RefusedInput`` where that is no network."""
    try:
        return replace(spec, **shapes)  # type: ignore[arg-type]
    except UsageError as error:
        raise RefusedInput(
            f"the weights' shapes make no network: {error.cause}",
            "check that the file is whole, and --arch",
        ) from error


def _matrices(spec: ModelSpec, ours: State) -> list[Tensor]:
    """Weights of the fully connected layers, first to last; none where some are damaged."""
    if any(f"head.{fc}.weight" in ours for fc in fc_layers(2)):
        return _named(ours)
    if layers := classifier_layers(ours):
        outputs = ", ".join(str(ours[f"{layer}.weight"].shape[0]) for layer in layers)
        raise _unsupported(
            spec,
            f"{len(layers)} fully connected layers ({outputs} outputs)",
            "train it with a shorter classifier, or a network here: vgg-deploy train",
        )
    others = [key for key in ours if not key.startswith("blocks.")]
    names = f"; there are {', '.join(others[:3])}" if others else ""
    raise _unsupported(
        spec,
        f"no fully connected layers of a known name{names}",
        "call them classifier.0, classifier.1 …, in their order",
    )


def _named(ours: State) -> list[Tensor]:
    """Those that have our names, if none is damaged and the last one is there."""
    found = [w for fc in fc_layers(2) if (w := ours.get(f"head.{fc}.weight")) is not None]
    return found if "head.fc8.weight" in ours and all(w.ndim == 2 for w in found) else []


def _one_width(spec: ModelSpec, fc: list[Tensor]) -> int:
    widths = [w.shape[0] for w in fc[:-1]]
    if len(set(widths)) > 1:
        raise _unsupported(
            spec,
            f"two hidden widths, {widths[0]} and {widths[1]}",
            "widen the narrower layer with zeros, which changes no answer, or train a network "
            "here: vgg-deploy train",
        )
    return widths[0]


def _unsupported(spec: ModelSpec, what: str, remedy: str) -> RefusedInput:
    return RefusedInput(
        f"the convolutions are those of {spec.arch} (width {spec.width:g}, {spec.channels} "
        f"channels), but the classifier has {what}; supported are up to two hidden layers of "
        "one width",
        remedy,
    )


def _placed(spec: ModelSpec, inputs: int, size: int | None, head: Head | None) -> ModelSpec:
    """``spec`` with the size and head that give the classifier its ``inputs``."""
    channels, shrinks = spec.blocks[-1][1], _shrinks(spec)
    side = max(1, round((inputs / channels) ** 0.5))
    if size is None and head != "gap":
        spec = _read(spec, size=side * shrinks)
    given = spec.map_sizes[-1]
    if head is None and side == given != 7:
        head = "book"
    elif head is None and side in (1, 7):
        head = "gap" if side == 1 else "torchvision"
    elif head is None and inputs == channels * side**2:
        raise RefusedInput(
            f"the classifier takes maps of {side}×{side}, an input of {spec.size} px gives "
            f"{given}×{given}",
            f"use --size {side * shrinks}",
        )
    return replace(spec, head=head or "book")


def _shrinks(spec: ModelSpec) -> int:
    """How many pixels one place of the last map stands for."""
    return 1 << len(spec.conv_arch)


def _width(base: ModelSpec, ours: State, first: int) -> float:
    """The width factor that gives the channels of every block.

    Each is rounded down, so a block of c channels that became n leaves n/c to (n+1)/c; where that
    is no width for all, the first block's, and ``fitted`` will say what differs.
    """
    low, high = 0.0, float("inf")
    widths = [
        (full, weight.shape[0])
        for index, (_, full) in enumerate(base.conv_arch)
        if (weight := ours.get(f"blocks.{index}.0.weight")) is not None and weight.ndim == 4
    ]
    for full, narrow in widths:
        if narrow > 1:  # 1 is also what less than 1 becomes
            low, high = max(low, narrow / full), min(high, (narrow + 1) / full)
    if not 0 < low < high:
        return first / base.conv_arch[0][1]
    exact = all(int(full * low) == narrow for full, narrow in widths)
    return low if exact else (low + high) / 2
