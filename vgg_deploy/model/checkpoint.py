"""The checkpoint file: safetensors weights with the ``ModelCard`` in the header.

safetensors cannot hold code, so reading one cannot run any (unlike a pickle: CVE-2025-32434).
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_deploy import jsonio
from vgg_deploy.artifact import TensorSpec
from vgg_deploy.errors import RefusedInput, os_errors, require_file
from vgg_deploy.files import usual_mode, word
from vgg_deploy.model import recognise
from vgg_deploy.spec import ModelCard

if TYPE_CHECKING:
    import torch

    from vgg_deploy.model.vgg import VGG

CARD_KEY = "vgg_deploy.card"
ASSUMED_KEY = "vgg_deploy.assumed"  # what of the card nobody told, neither a training nor a user


def save_checkpoint(
    path: Path, card: ModelCard, state: Mapping[str, torch.Tensor], *, assumed: str = ""
) -> None:
    """Write ``state`` (on any device, any layout) and ``card`` to ``path``."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    metadata = {CARD_KEY: jsonio.dumps(card, indent=None)}
    if assumed:
        metadata[ASSUMED_KEY] = assumed
    save_tensors(path, tensors, metadata)


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write contiguous tensors on the CPU as safetensors; a full disk is ``ResourceLimit``."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file  # imports torch

    with os_errors(f"write {path}"):
        try:
            save_file(_apart(tensors), path, metadata=dict(metadata))
            usual_mode(path)
        except SafetensorError as error:  # it tells the system's number in its text only
            if number := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
            raise


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """``tensors`` without shared memory (tied weights, views), which the format does not know."""
    seen: set[int] = set()
    apart = {}
    for key, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[key] = tensor.clone() if place in seen else tensor
        seen.add(place)
    return apart


def read_card(path: Path) -> ModelCard:
    """The card in a checkpoint's header; no weights are read and torch is not needed."""
    text = read_header(path).get(CARD_KEY)
    if text is None:
        raise RefusedInput(
            f"{path} holds weights but no vgg-deploy model card",
            f"say what they are: vgg-deploy load --weights {word(path)} --arch vgg16 -o BUNDLE",
        )
    return jsonio.loads(ModelCard, text, source=f"the header of {path}")


def read_header(path: Path) -> dict[str, str]:
    """The free-text metadata of a safetensors file."""
    require_file(path, "checkpoint")
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > 100_000_000:  # safetensors' own limit for a header
                raise ValueError("header too long")
            header = json.loads(file.read(length))
        metadata = header.get("__metadata__", {})
        return {str(k): str(v) for k, v in metadata.items()}
    except (ValueError, RecursionError, struct.error, AttributeError) as error:
        raise _not_safetensors(path) from error


def load_state(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file, on the CPU."""
    from safetensors import SafetensorError
    from safetensors.torch import load, load_file  # imports torch

    require_file(path, "checkpoint")
    text = not any("\udc80" <= letter <= "\udcff" for letter in str(path))
    try:
        return load_file(path) if text else load(path.read_bytes())  # it opens only UTF-8 names
    except (SafetensorError, TypeError) as error:  # TypeError: a side of 2^63 or more
        raise _not_safetensors(path) from error


def load_model(path: Path) -> VGG:
    """The network of a checkpoint with its weights, float32, in eval mode.

    Raises ``RefusedInput`` for a card that is that of another network.
    """
    import torch

    from vgg_deploy.model.vgg import VGG

    spec, state = read_card(path).spec, load_state(path)
    with torch.device("meta"):
        wanted = VGG(spec).state_dict()
    if {k: v.shape for k, v in wanted.items()} != {k: v.shape for k, v in state.items()}:
        raise RefusedInput(
            f"{path} holds other tensors than those of the {spec.arch} that its card tells",
            "restore the file, or train or load it again",
        )
    model = VGG(spec)
    model.load_state_dict(state)
    return model.eval()


def input_spec(card: ModelCard, *, batch: int | str = "batch") -> TensorSpec:
    """What every exported form of this model takes."""
    size, channels = card.spec.size, card.spec.channels
    return TensorSpec(
        name="input",
        dtype="float32",
        shape=(batch, channels, size, size),
        layout="NCHW",
        value_range=card.preprocessing.input_range,
    )


def output_spec(card: ModelCard, *, batch: int | str = "batch") -> TensorSpec:
    """What every exported form of this model gives."""
    return TensorSpec(name="logits", dtype="float32", shape=(batch, card.spec.classes), layout="NC")


def _not_safetensors(path: Path) -> RefusedInput:
    return recognise.refused(path) or RefusedInput(
        f"{path} is not a whole safetensors file",
        "copy or download it again; weights of torch.save have a name that ends in .pth",
    )
