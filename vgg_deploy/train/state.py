"""The whole state of a run between two steps, as JSON beside safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from vgg_deploy.train.epoch import Progress
from vgg_deploy.train.identity import Identity
from vgg_deploy.train.outcome import EpochRow
from vgg_deploy.train.step import Trainer

# 1: the rate of a step was that at its start; 2: "modern" did not standardise; 3: of equally
# accurate epochs the first was kept, and the threads of a run were not on record
SCHEMA_VERSION = 4
_MODEL, _OPTIMISER, _AVERAGES = "model.", "optimiser.", "averages."


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Contents of ``state.json``; the tensors lie beside it.

    The order of the images, all random numbers and the decay of the averages follow from the
    options and ``progress``, so they have no state of their own.
    """

    schema_version: int
    identity: Identity
    contexts: tuple[Mapping[str, str], ...]  # what its bits depend on, too, in turn; see identity
    progress: Progress
    accumulate: int
    rows: tuple[EpochRow, ...]
    best_sha256: str | None  # of best.safetensors as it was after the last whole epoch


def tensors_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Weights, batch norm statistics, their averages and what the optimiser keeps, by name."""
    found = _in_place(trainer)
    for index, parameter in enumerate(_optimised(trainer)):
        for key, value in trainer.optimiser.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                found[f"{_OPTIMISER}{index}.{key}"] = value
    return found


def _in_place(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Of ``tensors_of`` those that are there before the first step."""
    averages = trainer.averages.tensors if trainer.averages else {}
    return {
        **{f"{_MODEL}{k}": v for k, v in trainer.model.state_dict().items()},
        **{f"{_AVERAGES}{k}": v for k, v in averages.items()},
    }


def prepare(trainer: Trainer) -> None:
    """Give the optimiser places for what it keeps after a step, as if it had made one."""
    if trainer.recipe.momentum:
        for parameter in _optimised(trainer):
            trainer.optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def restore(trainer: Trainer, tensors: Mapping[str, torch.Tensor]) -> None:
    """Put tensors of ``tensors_of`` back, in place where there is a place."""
    with torch.no_grad():
        for name, value in _in_place(trainer).items():
            value.copy_(tensors[name])
    parameters = _optimised(trainer)
    for name, value in tensors.items():
        if name.startswith(_OPTIMISER):
            index, key = name.removeprefix(_OPTIMISER).split(".", 1)
            parameter = parameters[int(index)]
            kept = torch.empty_like(parameter) if value.shape == parameter.shape else value.clone()
            trainer.optimiser.state[parameter][key] = kept.to(trainer.device).copy_(value)


def _optimised(trainer: Trainer) -> list[torch.Tensor]:
    groups: list[dict[str, Any]] = trainer.optimiser.param_groups
    return [parameter for group in groups for parameter in group["params"]]
