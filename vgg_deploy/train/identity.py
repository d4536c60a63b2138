"""What a run is, and how two of them differ, in the words of the command line."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import torch

from vgg_deploy import environment
from vgg_deploy.environment import versions
from vgg_deploy.errors import RefusedInput, and_more
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.options import TrainOptions
from vgg_deploy.train.step import Trainer

_MOMENTS = ("card.preprocessing.mean", "card.preprocessing.std")
# What follows from another difference is not told beside it.
_FOLLOW: Mapping[str, tuple[str, ...]] = {
    "options.deterministic": ("exact.",),
    "options.recipe": ("card.spec.dropout", *_MOMENTS),
    "options.max_images": _MOMENTS,  # they are those of the images that are trained with
    "options.validation": _MOMENTS,
    "card.spec.arch": tuple(
        f"card.spec.{name}" for name in ("conv_arch", "pointwise", "lrn", "batch_norm")
    ),
    "card.spec.size": ("card.preprocessing.", "data"),  # images of a folder are as large
    "data": ("card.labels", "card.spec.classes", "card.spec.channels", "card.preprocessing."),
    "start": ("card.",),  # the network is that of the weights
}
_OPTIONS_OF_SPEC = ("arch", "width", "size", "head", "fc_width", "hidden", "ceil_mode")
_OF_THE_RECIPE = ("options.lr", "options.batch", "options.flip")  # where nobody chose them
_NAMES = {"data": "--data", "start": "--from", "card.labels": "classes"}
THEN = ", then "
VERSIONS = ("vgg-deploy", "numpy", "torch")
_DIGITS = 12  # of a digest


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a run is: another run's checkpoint does not fit."""

    card: ModelCard
    options: TrainOptions
    data: str  # name, counts and digest of the images
    start: str | None = None  # digest of the weights it began with; None: its own
    exact: Mapping[str, str] = field(default_factory=dict)  # what bits depend on, too


def exact_context(trainer: Trainer) -> dict[str, str]:
    """What the same bits depend on beside the options; of deterministic runs part of what it is."""
    return {
        "device": trainer.device.type,
        "precision": trainer.precision,
        "threads": str(torch.get_num_threads()),
        "processes": str(trainer.world.size),
        "machine": platform.machine(),
        **_processor(trainer.device),
        **versions(*VERSIONS),
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


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs between two contexts, in a line; empty where nothing does."""
    pairs = {key: (before.get(key, "none"), now.get(key, "none")) for key in (*before, *now)}
    return "; ".join(f"{key}: {a} before, {b} now" for key, (a, b) in pairs.items() if a != b)


def in_turn(contexts: Sequence[Mapping[str, str]], key: str) -> str:
    """What a run had of something: ``"2"``, or ``"2, then 1"`` where it was gone on with others."""
    found = (context[key] for context in contexts if key in context)
    return THEN.join(value for value, _ in groupby(found))


def require_same(stored: Identity, wanted: Identity) -> None:
    """``RefusedInput`` with every difference between a checkpoint's run and this one."""
    if found := differences(stored, wanted):
        raise RefusedInput(
            f"the checkpoint is of another run: {'; '.join(found)}",
            "give the options it was started with, or start afresh with --replace",
        )


def differences(stored: Identity, wanted: Identity) -> list[str]:
    """Every difference that matters, a line each; none where the run can be gone on with.

    The data are known by their content, whatever their folder is called. More epochs are no
    difference where the learning rate does not depend on how many there are.
    """
    unlike = _differing(asdict(stored), asdict(wanted))
    names = [name for name in unlike if not _alike(name, stored, wanted)]
    follow = tuple(begin for name in names for begin in _FOLLOW.get(name, ()))
    told = [name for name in names if not name.startswith(follow)] if follow else names
    return [_told(name, stored, wanted) for name in told]


def _differing(one: Any, other: Any, name: str = "") -> list[str]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = dict.fromkeys((*one, *other))
        pairs = [(f"{name}.{k}".strip("."), one.get(k), other.get(k)) for k in keys]
        return [found for key, a, b in pairs for found in _differing(a, b, key)]
    return [] if one == other else [name]


def _alike(name: str, stored: Identity, wanted: Identity) -> bool:
    """Whether values that differ are the same for the weights."""
    if name == "card.dataset":
        return True  # its content is compared
    if name == "data":
        return _content(stored) == _content(wanted)
    if name in _OF_THE_RECIPE:
        return _used(name, stored) == _used(name, wanted)
    if name == "options.epochs":
        more = wanted.options.epochs > stored.options.epochs
        return more and wanted.options.chosen.schedule == "constant"
    return False


def _content(run: Identity) -> list[str]:
    """Counts and digest of the images, without the data set's name, which may hold commas."""
    return run.data.rsplit(", ", 2)[1:]


def _used(name: str, run: Identity) -> float | None:
    """An option, or what the recipe has for it; None: the recipe's, whichever it is."""
    name = name.removeprefix("options.")
    given: float | None = getattr(run.options, name)
    usual: float = getattr(run.options.chosen, name)
    return usual if given is None else given


def _told(name: str, stored: Identity, wanted: Identity) -> str:
    if name == "data" and _content(stored)[0] == _content(wanted)[0]:
        return f"--data: as many images as before ({_content(stored)[0]}), but other ones"
    old, new = (_value(name, run) for run in (stored, wanted))
    why = ""
    if name == "options.epochs" and wanted.options.epochs > stored.options.epochs:
        why = ", and the learning rate depends on them"
    return f"{_flag(name)}: {old} before, {new} now{why}"


def _flag(name: str) -> str:
    """What is called so on the command line, where it can be chosen there."""
    group, _, own = name.rpartition(".")
    if group == "options" or (group == "card.spec" and own in _OPTIONS_OF_SPEC):
        return f"--{own.replace('_', '-')}"
    return _NAMES.get(name, own)


def _value(name: str, run: Identity) -> str:
    if name == "data":
        return _content(run)[0]
    found: Any = asdict(run)
    for part in name.split(".", 2 if name.startswith("card") else 1):
        found = found.get(part)
    if name == "options.flip":
        found = _used(name, run)
    if found is None and name in _OF_THE_RECIPE:
        return f"the recipe's ({_used(name, run):g})"
    if isinstance(found, bool):
        return "given" if found else "not given"
    if name == "start" and found:
        return f"weights {found[:_DIGITS]}"
    if isinstance(found, tuple):
        return and_more([str(one) for one in found], 5)
    return "none" if found is None else str(found)
