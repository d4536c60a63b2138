"""The whole state of a run between two steps, as JSON beside safetensors."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from vgg_deploy import environment
from vgg_deploy.environment import versions
from vgg_deploy.errors import RefusedInput
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.epoch import Progress
from vgg_deploy.train.options import TrainOptions
from vgg_deploy.train.outcome import EpochRow
from vgg_deploy.train.step import Trainer

SCHEMA_VERSION = 2  # 1: the rate of a step was that at its start
_MODEL, _OPTIMISER, _AVERAGES = "model.", "optimiser.", "averages."


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a run is: another run's checkpoint does not fit."""

    card: ModelCard
    options: TrainOptions
    data: str  # name, counts and digest of the images
    start: str | None = None  # digest of the weights it began with; None: its own
    exact: Mapping[str, str] = field(default_factory=dict)  # what bits depend on, too


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Contents of ``state.json``; the tensors lie beside it.

    The order of the images, all random numbers and the decay of the averages follow from the
    options and ``progress``, so they have no state of their own.
    """

    schema_version: int
    identity: Identity
    progress: Progress
    accumulate: int
    rows: tuple[EpochRow, ...]
    best_sha256: str | None  # of best.safetensors as it was after the last whole epoch


def exact_context(trainer: Trainer) -> dict[str, str]:
    """What the same bits depend on beside the options, for deterministic runs."""
    return {
        "device": trainer.device.type,
        "precision": trainer.precision,
        "threads": str(torch.get_num_threads()),
        "processes": str(trainer.world.size),
        "machine": platform.machine(),
        **_processor(trainer.device),
        **versions("vgg-deploy", "numpy", "torch"),
    }


def _processor(device: torch.device) -> dict[str, str]:
    """What computes: its model decides which kernels are taken, and with them the bits."""
    if device.type != "cuda":
        return {"cpu": environment.capture().cpu}
    return {
        "gpu": torch.cuda.get_device_name(device),
        "cuda": str(torch.version.cuda),
        "cudnn": str(torch.backends.cudnn.version()),
    }


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


def require_same(stored: Identity, wanted: Identity) -> None:
    """``RefusedInput`` with every difference between a checkpoint's run and this one."""
    differences = [
        f"{name} {old} in the checkpoint, {new} now"
        for name, old, new in _differing(asdict(stored), asdict(wanted))
    ]
    if differences:
        raise RefusedInput(
            f"the checkpoint is of another run: {'; '.join(differences)}",
            "give the options it was started with, or start afresh with --replace",
        )


def _differing(one: Any, other: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = dict.fromkeys((*one, *other))
        pairs = [(f"{name}.{k}".strip("."), one.get(k), other.get(k)) for k in keys]
        return [found for key, a, b in pairs for found in _differing(a, b, key)]
    return [] if one == other else [(name.removeprefix("card."), one, other)]
