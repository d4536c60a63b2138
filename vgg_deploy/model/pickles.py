"""torch's own files: tensors and plain values are read, and no code in them is run."""

from __future__ import annotations

import pickle
import re
import textwrap
import warnings
from pathlib import Path
from typing import Any

from vgg_deploy.errors import RefusedInput
from vgg_deploy.libraries import import_torch
from vgg_deploy.model import recognise

_PATHS = ("Posix", "Windows", "PurePosix", "PureWindows")
# What training scripts save beside the weights: options, paths, a best accuracy, a random state.
_BESIDE = (
    "argparse.Namespace",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{c}.multiarray.{n}" for c in ("core", "_core") for n in ("scalar", "_reconstruct")),
    *(f"{m}.{n}Path" for m in ("pathlib", "pathlib._local") for n in _PATHS),
)
# How torch says that a pickle names something that is no tensor, blocked or merely unknown.
_GLOBAL = re.compile(r"unsupported global(?:: GLOBAL)?(?: ([\w.]+))?", re.IGNORECASE)
# How torch and Python say that bytes are no instructions, or an archive none of theirs.
_RIDDLE = re.compile(
    r"Unsupported operand|pop from empty|Invalid magic|\[enforce fail|Pytorch|Cannot use"
)

_ZIP_END = 22 + 65_535  # bytes that the last record of an archive takes at most


class Inert:
    """Stands in for a value beside the weights, so that not even NumPy sees what a file says."""

    def __new__(cls, *_: object) -> Inert:
        """Whatever the pickle gives is dropped."""
        return super().__new__(cls)

    def __init__(self, *_: object) -> None: ...

    def __setstate__(self, state: object) -> None:
        """Whatever the pickle gives is dropped."""


def load_pickle(path: Path) -> Any:
    """What ``torch.save`` wrote (``weights_only``, CVE-2025-32434), on the CPU.

    Raises ``RefusedInput`` for other objects, which it names, and for damaged files.
    """
    torch = import_torch()
    beside: list[Any] = [(Inert, name) for name in _BESIDE]
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(beside):
            warnings.simplefilter("ignore")  # of torch about itself, and about damaged bytes
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes are instructions to a pickle: anything may follow
        raise _not_loaded(path, error) from error


def _not_loaded(path: Path, error: Exception) -> RefusedInput:
    if other := recognise.refused(path):
        return other
    found = _GLOBAL.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
    return _more_than_tensors(path, found[1]) if found else _not_weights(path, error)


def _more_than_tensors(path: Path, name: str | None) -> RefusedInput:
    named = f" ({name[:100]})" if name else ""
    return RefusedInput(
        f"{path} is a pickle that holds more than tensors{named}, and loading it could run code",
        "save the state dict alone: torch.save(model.state_dict(), path)",
    )


def _not_weights(path: Path, error: Exception) -> RefusedInput:
    return RefusedInput(
        f"{path} is not a whole PyTorch weights file: "
        f"{'its end is missing' if _is_cut(path) else _reason(error)}",
        "copy or download it again; what torch.save or safetensors wrote can be loaded",
    )


def _is_cut(path: Path) -> bool:
    """Whether this is the beginning of a ZIP archive; torch's reader tells it in riddles."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
        file.seek(max(0, path.stat().st_size - _ZIP_END))
        return b"PK\x05\x06" not in file.read()


def _reason(error: Exception) -> str:
    """The first sentence that is about the file: torch puts advice about itself before it."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].strip()
    text = text.removeprefix("Weights only load failed.").strip()
    line = next(iter(text.splitlines()), type(error).__name__)
    sentence = re.split(r"(?<=[.!?])\s", line)[0].removesuffix(".")
    if _RIDDLE.match(sentence):
        return "torch.save did not write it, or it is damaged"
    return textwrap.shorten(sentence, 120, placeholder=" …")
