"""State dict keys: ours, torchvision's and the book's name the same tensors.

All three list the layers in the same order; what differs is how a layer is called:

=============  =====================  ===================  ==================
layer          ours                   torchvision          the book
=============  =====================  ===================  ==================
conv1_1        ``blocks.0.0``         ``features.0``       ``0.0``
conv2_1        ``blocks.1.0``         ``features.3``       ``1.0``
fc6            ``head.fc6``           ``classifier.0``     ``6``
=============  =====================  ===================  ==================

Heads in torchvision's naming differ in what stands between their fully connected layers
(``classifier.1``, ``.4``, ``.6`` where Dropout comes first), and timm calls them
``pre_logits.fc1``, ``pre_logits.fc2``, which are convolutions, and ``head.fc``: of whatever
stands behind the features, the matrices are the fully connected layers, in order, fc8 the last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from vgg_deploy.errors import RefusedInput
from vgg_deploy.spec import ModelSpec, fc_layers

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]
_WRAPPERS = frozenset({"module", "_orig_mod"})  # (Distributed)DataParallel, torch.compile
_OWNERS = ("net.", "model.")  # the book's class, Lightning modules
_CLASSIFIER = re.compile(r"(classifier|fc|linear)(\.\d+)*|pre_logits\.fc[12]|head\.fc|\d+")
_CONVOLUTIONAL = "pre_logits."  # timm's fully connected layers that slide over a larger map


def torchvision_names(spec: ModelSpec) -> dict[str, str]:
    """Our layer name to torchvision's, for every layer with weights."""
    layers = enumerate(_block_layers(spec))
    names = {o: f"features.{i}" for i, (o, kind) in layers if kind in ("conv", "norm")}
    return names | {f"head.{fc}": f"classifier.{3 * i}" for i, fc in enumerate(spec.fc_layers)}


def book_names(spec: ModelSpec) -> dict[str, str]:
    """Our layer name to the book's ``nn.Sequential(*blocks, Flatten, Linear, ...)``."""
    names = {o: o.removeprefix("blocks.") for o, k in _block_layers(spec) if k in ("conv", "norm")}
    first = len(spec.conv_arch) + 1  # after the blocks and Flatten
    return names | {f"head.{fc}": str(first + 3 * i) for i, fc in enumerate(spec.fc_layers)}


def to_torchvision(spec: ModelSpec, state: State) -> dict[str, Tensor]:
    """Our state dict under torchvision's keys."""
    return _renamed(state, torchvision_names(spec))


def to_ours(spec: ModelSpec, state: State) -> dict[str, Tensor]:
    """A state dict in any of the three namings under our keys; unknown keys stay as they are.

    Raises ``RefusedInput`` where two keys name one tensor.
    """
    state = _matrices(_unwrapped(state))
    found = classifier_layers(state)
    for names in (torchvision_names(spec), book_names(spec)):
        back = {theirs: o for o, theirs in names.items() if not (found and o.startswith("head."))}
        if any(key.rpartition(".")[0] in back for key in state):
            return _renamed(state, back | _head_names(found))
    return dict(state)


def classifier_layers(state: State) -> list[str]:
    """Names of the fully connected layers in others' namings, in order."""
    layers = (
        key.removesuffix(".weight")
        for key, tensor in state.items()
        if key.endswith(".weight") and tensor.ndim == 2
    )
    return sorted(filter(_CLASSIFIER.fullmatch, layers), key=_place)


def _head_names(found: list[str]) -> dict[str, str]:
    """Others' names of the fully connected layers to ours; empty for a number we have not."""
    if not 1 <= len(found) <= 3:
        return {}
    ours = fc_layers(len(found) - 1)
    return {theirs: f"head.{name}" for theirs, name in zip(found, ours, strict=True)}


def slides(state: State) -> bool:
    """Whether the first fully connected layer slides over maps larger than it, as timm's does."""
    return any(key.startswith(_CONVOLUTIONAL) for key in _unwrapped(state))


def _place(layer: str) -> tuple[bool, list[int]]:
    """Safetensors files are sorted by name: 10 before 2, head before pre_logits."""
    return not layer.startswith(_CONVOLUTIONAL), [int(n) for n in re.findall(r"\d+", layer)]


def _matrices(state: State) -> dict[str, Tensor]:
    """timm's fc6 and fc7 as matrices: ``[features, C, 7, 7]`` lists a map as flatten does."""
    return {
        key: tensor.flatten(1) if key.startswith(_CONVOLUTIONAL) and tensor.ndim == 4 else tensor
        for key, tensor in state.items()
    }


def _renamed(state: State, names: Mapping[str, str]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        layer, _, parameter = key.rpartition(".")
        name = f"{names[layer]}.{parameter}" if layer in names else key
        if name in renamed:
            raise _twice(name, "under the keys of two namings")
        renamed[name] = tensor
    return renamed


def _twice(name: str, how: str) -> RefusedInput:
    return RefusedInput(
        f"the weights hold {name} twice, {how}",
        "save the state dict of one network alone: torch.save(model.state_dict(), path)",
    )


def _unwrapped(state: State) -> State:
    """``state`` without what wrappers put into its keys, wherever they stand and however many."""
    bare: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = ".".join(part for part in key.split(".") if part not in _WRAPPERS)
        if name in bare:
            raise _twice(name, "with and without a wrapper's prefix")
        bare[name] = tensor
    while owner := _shared_owner(bare):
        bare = {key.removeprefix(owner): tensor for key, tensor in bare.items()}
    return bare


def _shared_owner(state: State) -> str | None:
    """What every key begins with, where that is no layer."""
    shared = (owner for owner in _OWNERS if all(key.startswith(owner) for key in state))
    return next(shared, None) if state else None


def _block_layers(spec: ModelSpec) -> list[tuple[str, str]]:
    """Our name and the kind of every module inside the blocks, in order."""
    layers: list[tuple[str, str]] = []
    for block, (num_convs, _) in enumerate(spec.conv_arch):
        kinds: list[str] = []
        for index in range(num_convs):
            kinds += ["conv", *(["norm"] if spec.batch_norm else []), "relu"]
            if spec.lrn and block == index == 0:
                kinds.append("lrn")
        kinds.append("pool")
        layers += [(f"blocks.{block}.{i}", kind) for i, kind in enumerate(kinds)]
    return layers
