"""Local state dict files, safetensors and torch's own: names and tensors, and no code run."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgg_deploy.errors import RefusedInput, require_file
from vgg_deploy.libraries import import_torch
from vgg_deploy.model.checkpoint import load_state

if TYPE_CHECKING:
    from torch import Tensor

# How torch says that a pickle names something that is no tensor, blocked or merely unknown.
_CODE = re.compile("unsupported global", re.IGNORECASE)


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a state dict file; no code in it is run (``weights_only``, CVE-2025-32434)."""
    require_file(path, "weights file")
    if path.suffix == ".safetensors":
        return load_state(path)
    torch = import_torch()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself, and about damaged bytes
            loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _CODE.search(str(error)):
            raise _not_weights(path, error) from error
        raise RefusedInput(
            f"{path} is a pickle that holds more than tensors, and loading it could run code",
            "save the state dict alone: torch.save(model.state_dict(), path)",
        ) from error
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes are instructions to a pickle: anything may follow
        raise _not_weights(path, error) from error
    return _tensors(path, loaded)


def _not_weights(path: Path, error: Exception) -> RefusedInput:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    return RefusedInput(
        f"{path} is not a whole PyTorch weights file: {reason[:120]}",
        "give a .safetensors file, or one that torch.save wrote",
    )


def _tensors(path: Path, loaded: Any) -> dict[str, Tensor]:
    import torch

    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) and not v.is_nested
        for k, v in loaded.items()
    ):
        raise RefusedInput(
            f"{path} does not hold a state dict (names and tensors)",
            "save one: torch.save(model.state_dict(), path)",
        )
    return dict(loaded)
