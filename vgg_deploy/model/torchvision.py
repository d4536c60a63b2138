"""torchvision's weights: download by enum name, and local state dicts in any key naming."""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_deploy.errors import (
    DigestMismatch,
    RefusedInput,
    VggDeployError,
    first_line,
    from_os_error,
    os_errors,
    unknown_choice,
)
from vgg_deploy.files import sha256_of
from vgg_deploy.libraries import import_torch, import_torchvision
from vgg_deploy.model.checkpoint import CARD_KEY, read_card, read_header
from vgg_deploy.model.keys import State, to_ours
from vgg_deploy.model.state_file import read_state
from vgg_deploy.spec import ModelCard, ModelSpec, Preprocessing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Normalisation of ImageNet-1k as torchvision's VGG weights were trained with it.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET_RESIZE = 256  # shorter side before the 224 px crop

WEIGHTS: Mapping[str, str] = {  # enum name to architecture
    f"{arch.upper()}_Weights.IMAGENET1K_V1": arch
    for arch in (
        "vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"
    )
}  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """Weights that fit ``card.spec``, under our keys."""

    card: ModelCard
    state: Mapping[str, Tensor]
    source: str


def load_torchvision(name: str) -> Loaded:
    """One of torchvision's eight VGG weight sets, downloaded once and then read from its cache.

    Raises ``UsageError`` for an unknown name, ``RefusedInput`` when the file is not in the cache
    and cannot be fetched, ``DigestMismatch`` when it is not the published one.
    """
    if name not in WEIGHTS:
        raise unknown_choice("weights", name, WEIGHTS)
    weights = import_torchvision("torchvision.models").get_weight(name)
    state = read_state(_fetched(name, weights.url))
    spec = ModelSpec.named(WEIGHTS[name], head="torchvision")
    card = ModelCard(
        spec=spec,
        preprocessing=imagenet_preprocessing(spec.size),
        labels=tuple(weights.meta["categories"]),
        dataset="imagenet-1k",
    )
    return Loaded(card, fitted(spec, state, source=name), name)


def _fetched(name: str, url: str) -> Path:
    """The published file in torch's cache, downloaded where it is absent.

    Its name tells how its SHA-256 begins, and that is checked whoever put it there: the digest
    and ``weights_only`` are what ``get_state_dict`` leaves out for a file that is in the cache.
    """
    torch = import_torch()
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    begins = path.stem.rpartition("-")[2]
    if not path.is_file():
        with os_errors(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
        shown = sys.stderr.isatty()
        try:
            with redirect_stdout(sys.stderr):  # torch announces it on stdout
                torch.hub.download_url_to_file(url, str(path), hash_prefix=begins, progress=shown)
        except (OSError, RuntimeError, HTTPException) as error:
            raise _not_fetched(name, path, error) from error
    with os_errors(f"read {path}"):
        digest = sha256_of(path)
    if not digest.startswith(begins):
        raise DigestMismatch(
            f"{path} is not the published file: its SHA-256 begins with {digest[: len(begins)]}",
            "remove it and run this again, or put the right one there",
        )
    return path


def _not_fetched(name: str, path: Path, error: Exception) -> VggDeployError:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return from_os_error(error, f"write {path}")
    reason = getattr(error, "reason", None) or first_line(error)
    return RefusedInput(
        f"could not fetch {name}: {reason}",
        f"without a network, put {path.name} into {path.parent} and run this again",
    )


def load_file(path: Path, card: ModelCard | None = None) -> Loaded:
    """A local ``.safetensors`` or ``.pth`` state dict; ``card`` may come from a safetensors header.

    Raises ``RefusedInput`` for anything but plain tensors, and for tensors that do not fit.
    """
    state = read_state(path)
    if card is None:
        card = read_card(path)
    return Loaded(card, fitted(card.spec, state, source=str(path)), str(path))


def has_card(path: Path) -> bool:
    """Whether a file is a checkpoint of ours, which says itself what it is."""
    return path.suffix == ".safetensors" and CARD_KEY in read_header(path)


def fitted(spec: ModelSpec, state: State, *, source: str) -> dict[str, Tensor]:
    """``state`` under our keys in float32; ``RefusedInput`` tells what is missing or too much."""
    import torch

    from vgg_deploy.model.vgg import VGG

    with torch.device("meta"):
        wanted = VGG(spec).state_dict()
    ours = _filled(wanted, to_ours(spec, state))
    if problem := _difference(wanted, ours):
        raise RefusedInput(
            f"{source} does not fit {spec.arch} (width {spec.width:g}, {spec.channels} channels, "
            f"{spec.classes} classes): {problem}",
            "check --arch, --size, --head and --classes; the width is that of the weights",
        )
    return {
        key: _values(ours[key], like.dtype, f"{key} of {source}") for key, like in wanted.items()
    }


def _values(tensor: Tensor, dtype: torch.dtype, what: str) -> Tensor:
    """A tensor as others store it (sparse, eight bits) with plain values of ``dtype``."""
    import torch

    try:
        dense = tensor.to_dense()
        if dense.is_floating_point() and not dtype.is_floating_point:  # a count of batches
            dense = torch.nan_to_num(dense.float(), posinf=0, neginf=0)
        plain = dense.to(dtype)
        finite = bool(torch.isfinite(plain).all())
    except RuntimeError as error:  # no values at all, or a type that torch only stores
        raise RefusedInput(
            f"{what} has no plain values: {tensor.dtype} on {tensor.device}",
            "save the weights dense and in float32",
        ) from error
    if not finite:
        raise RefusedInput(f"{what} holds NaN or infinity", "use weights from before it diverged")
    return plain


def _filled(wanted: State, have: State) -> dict[str, Tensor]:
    """``have`` with zeros for what some files do not hold and nothing depends on.

    Batch norm's count is absent from files older than torch 0.4.1, torchvision's own among them:
    in eval mode, and in training with a momentum, nothing reads it. Convolutions in front of batch
    norm are often made without a bias, all of them.
    """
    import torch

    biases = [k.replace("weight", "bias") for k, like in wanted.items() if like.ndim == 4]
    if any(k in have for k in biases):
        biases = []
    counts = [k for k in wanted if k.endswith(".num_batches_tracked") and k not in have]
    return {
        **have,
        **{k: torch.zeros(wanted[k].shape, dtype=wanted[k].dtype) for k in (*counts, *biases)},
    }


def _difference(wanted: State, have: State) -> str:
    """A short account of what is missing, too much, of another shape or another dtype."""
    shapes = [
        f"{k} {tuple(have[k].shape)} instead of {tuple(wanted[k].shape)}"
        for k in wanted
        if k in have and have[k].shape != wanted[k].shape
    ]
    dtypes = [
        f"{k} {str(have[k].dtype).removeprefix('torch.')}"
        for k in wanted
        if k in have
        and not have[k].is_floating_point()  # a count of batches may be: `_values` rounds it
        and (wanted[k].is_floating_point() or have[k].is_complex())
    ]
    parts = [
        _listed("missing", [k for k in wanted if k not in have]),
        _listed("too much", [k for k in have if k not in wanted]),
        _listed("wrong shape", shapes),
        _listed("wrong dtype", dtypes),
    ]
    return "; ".join(part for part in parts if part)


def _listed(what: str, names: list[str], most: int = 3) -> str:
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{what}: {', '.join(names[:most])}{more}"


def imagenet_preprocessing(size: int) -> Preprocessing:
    """Shorter side to 256/224 of ``size``, centre crop, ImageNet's mean and deviation."""
    return Preprocessing(
        size=size,
        channels=3,
        resize=round(IMAGENET_RESIZE * size / 224),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )
