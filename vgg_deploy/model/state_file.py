"""Local state dict files, safetensors and torch's own: which tensors in them are the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgg_deploy.errors import RefusedInput, UsageError, require_file, unknown_choice
from vgg_deploy.model.checkpoint import load_state
from vgg_deploy.model.pickles import load_pickle

if TYPE_CHECKING:
    from torch import Tensor

_USUAL = ("state_dict", "model", "model_state_dict")
_DEPTH = 3  # of dictionaries in dictionaries; a pickle's may hold themselves


@dataclass(frozen=True)
class StateFile:
    """A state dict, where in its file it lay, and what other ones lie there."""

    state: dict[str, Tensor]
    key: str | None = None  # None: the file holds nothing else
    others: tuple[str, ...] = ()


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a state dict file; no code in it is run."""
    return read_state_file(path).state


def read_state_file(path: Path, key: str | None = None) -> StateFile:
    """The state dict called ``key``; without one the only one, or that of the usual name.

    Raises ``RefusedInput`` where that does not decide, ``UsageError`` for a key that is not there.
    """
    require_file(path, "weights file")
    loaded = load_state(path) if path.suffix == ".safetensors" else load_pickle(path)
    if _is_state(loaded):
        if key is not None:
            raise UsageError(
                f"{path} is a state dict itself: there is no key {key!r} to choose",
                "leave --key out",
            )
        return StateFile(_without_counts(loaded))
    found = dict(_states(loaded, "", _DEPTH, set()))
    name = _chosen(path, list(found), key)
    others = tuple(other for other in found if other != name)
    return StateFile(_without_counts(found[name]), name, others)


def _chosen(path: Path, names: list[str], key: str | None) -> str:
    if not names:
        raise RefusedInput(
            f"{path} does not hold a state dict (names and tensors)",
            "save one: torch.save(model.state_dict(), path)",
        )
    if key is not None:
        if key not in names:
            raise unknown_choice("key", key, names)
        return key
    usual = [name for name in _USUAL if name in names]
    usual += [name for name in names if set(name.split(".")) <= set(_USUAL)]
    if len(names) > 1 and not usual:
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        raise RefusedInput(
            f"{path} holds {len(names)} state dicts: {', '.join(names[:8])}{more}",
            f"choose one, for example --key {names[0]}",
        )
    return usual[0] if usual else names[0]


def _states(
    value: Any, name: str, depth: int, seen: set[int]
) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Every state dict inside dictionaries, by the keys that lead to it.

    A network's has dots in its names, unlike an optimizer's or a generator's state.
    """
    if not isinstance(value, Mapping) or id(value) in seen:
        return
    seen.add(id(value))
    if name and _is_state(value):
        if any("." in key for key in value):
            yield name, value
    elif depth:
        for key, inner in value.items():
            if isinstance(key, str):
                yield from _states(inner, f"{name}.{key}" if name else key, depth - 1, seen)


def _is_state(value: Any) -> bool:
    import torch

    return isinstance(value, Mapping) and all(
        isinstance(k, str) and isinstance(v, torch.Tensor) and not v.is_nested
        for k, v in value.items()
    )


def _without_counts(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without how many models ``AveragedModel`` has averaged, which is no weight."""
    return {k: v for k, v in state.items() if k.rpartition(".")[2] != "n_averaged"}
