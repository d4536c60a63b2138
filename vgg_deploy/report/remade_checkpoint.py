"""The command that makes a bundle's checkpoint again: ``load`` or ``train``."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping

from vgg_deploy.artifact import Artifact
from vgg_deploy.bundle import Bundle
from vgg_deploy.report.command_line import (
    BUNDLE,
    COMMAND,
    FILE,
    PATH,
    comment,
    line,
    untold,
)
from vgg_deploy.spec import NAMED_DATA, ModelCard, ModelSpec, unnamed_labels
from vgg_deploy.train.recipes import RECIPES

_OPTIONS = {  # of train: option by its name in made_by
    "epochs": "--epochs",
    "dataset": "--data",
    "recipe": "--recipe",
    "batch": "--batch",
    "lr": "--lr",
    "seed": "--seed",
    "training_precision": "--precision",
    "accumulate": "--accumulate",
    "max_images": "--max-images",
    "validation": "--validation",
    "ema": "--ema",
}
_VERSIONS = ("torch", "numpy", "vgg-deploy")
# SHA-256 of torchvision's names of ImageNet's classes, one per line; no torchvision is needed here
IMAGENET_LABELS = "0b0f9fee7c952f257418d62aa701f023a9da13b443a14f5c4291e5724d92967c"


def checkpoint_command(bundle: Bundle, name: str) -> str:
    """The command, or a comment with it; empty where the checkpoint came otherwise."""
    checkpoint = bundle.find("checkpoint")
    if checkpoint is None:
        return ""
    made_by = checkpoint.made_by
    if "weights" in made_by:
        return _load(bundle.card, made_by, name)
    return _train(bundle, checkpoint, name) if made_by.get("command") == "train" else ""


def _load(card: ModelCard, made_by: Mapping[str, str], name: str) -> str:
    weights = made_by["weights"]
    by_name = re.fullmatch(r"\w+_Weights\.\w+", weights) is not None
    words = [] if by_name else _file(card)
    for key in ("key", "preprocessing", "mean", "std", "resize", "value_range"):
        if key in made_by:
            words += [f"--{key.replace('_', '-')}", made_by[key]]
    if made_by.get("ceil_mode") == "True":
        words.append("--ceil-mode")
    given = made_by["labels"] != "own" if "labels" in made_by else _renamed(card, by_name)
    words += ["--labels", FILE] if given else []
    command = line("load", "--weights", weights, *words, "-o", name)
    return untold(command, FILE="the names of its classes, one per line") if given else command


def _file(card: ModelCard) -> list[str]:
    """What a local file may not say of itself; torchvision's names say it."""
    return ["--arch", card.spec.arch, "--size", str(card.spec.size), "--head", card.spec.head]


def _renamed(card: ModelCard, by_name: bool) -> bool:
    """Whether labels were given to an earlier ``load``, which did not record it.

    A file that says itself which data set it is for brings its labels.
    """
    if by_name:
        return hashlib.sha256("\n".join(card.labels).encode()).hexdigest() != IMAGENET_LABELS
    return card.dataset is None and card.labels != unnamed_labels(len(card.labels))


def _train(bundle: Bundle, checkpoint: Artifact, name: str) -> str:
    spec, made_by = bundle.card.spec, checkpoint.made_by
    missing = _missing(made_by)
    words = ["--from", BUNDLE] if BUNDLE in missing else _network(spec)
    if freeze := made_by.get("freeze"):
        words += ["--freeze", freeze]
    for key, option in _OPTIONS.items():
        if (value := _last(made_by.get(key, ""))) and (key, value) != ("accumulate", "1"):
            words += [option, PATH if key == "dataset" and PATH in missing else value]
    words += _flips(made_by)
    words += [f"--{name}" for name in ("deterministic", "compile") if made_by.get(name) == "True"]
    if _is_exact(made_by) and "device" in made_by:
        words += ["--device", made_by["device"]]
    if BUNDLE not in missing:
        words += _unusual(spec)
    command = shlex.join([*_launched(made_by), *words, "-o", name])
    return untold(command, **missing) if missing else command


def _network(spec: ModelSpec) -> list[str]:
    return ["--arch", spec.arch, "--width", _number(spec.width), "--size", str(spec.size)]


def _unusual(spec: ModelSpec) -> list[str]:
    """Options of the network that are seldom given."""
    words = []
    if spec.fc_width != 4096:
        words += ["--fc-width", str(spec.fc_width)]
    if spec.hidden != 2:
        words += ["--hidden", str(spec.hidden)]
    if spec.head != "book":
        words += ["--head", spec.head]
    return [*words, "--ceil-mode"] if spec.ceil_mode else words


def same_bits(bundle: Bundle) -> str:
    """A comment on whether training again gives the same weights; empty where it is not known."""
    checkpoint = bundle.find("checkpoint")
    made_by = checkpoint.made_by if checkpoint else {}
    if made_by.get("command") != "train" or "deterministic" not in made_by:
        return ""
    if not _is_exact(made_by):
        return comment("other bits may come out: it was trained without --deterministic")
    dataset = made_by.get("dataset", NAMED_DATA[0])
    if dataset not in NAMED_DATA and "images_file" not in made_by:
        return ""  # earlier versions cropped the images of folders otherwise
    where = {"cpu": "processor", "cuda": "GPU"}.get(made_by.get("device", ""), "machine")
    versions = [f"{name} {made_by[name]}" for name in _VERSIONS if name in made_by]
    same = f"with {', '.join(versions)}" if versions else "with the same versions"
    return comment(f"the same bits are to be expected on the same {where} {same}")


def _is_exact(made_by: Mapping[str, str]) -> bool:
    return made_by.get("deterministic") == "True"


def _flips(made_by: Mapping[str, str]) -> list[str]:
    """The option, where a run did otherwise than its recipe does now."""
    usual = {str(name): str(recipe.flip) for name, recipe in RECIPES.items()}
    flipped = made_by.get("recipe_flip")
    if flipped is None or flipped == usual.get(made_by.get("recipe", "")):
        return []
    return ["--flip" if flipped == "True" else "--no-flip"]


def _launched(made_by: Mapping[str, str]) -> list[str]:
    """How the processes of a run are started; on how many machines is not on record.

    On a CPU sums, and with them the bits, depend on the number of threads.
    """
    exact = _is_exact(made_by) and made_by.get("device") == "cpu"
    threads = [f"OMP_NUM_THREADS={made_by['threads']}"] if exact and "threads" in made_by else []
    processes = _last(made_by.get("processes", "1"))
    if processes == "1":
        return [*threads, COMMAND, "train"]
    torchrun = ["torchrun", "--standalone", "--nproc-per-node", processes]
    return [*threads, *torchrun, "-m", "vgg_deploy.train"]


def _last(value: str) -> str:
    """What a run ended with: ``"2, then 1"`` says that it was gone on with another number."""
    return value.rpartition(", then ")[2]


def _number(value: float) -> str:
    """The shortest text that is read as the same number."""
    return repr(value).removesuffix(".0")


def _missing(made_by: Mapping[str, str]) -> dict[str, str]:
    """What a training command needs and the records do not hold, by the word in its place."""
    missing = {}
    if start := made_by.get("fine_tuned_from"):
        missing[BUNDLE] = f"the one with checkpoint {start[:12]}…"
    if (data := made_by.get("dataset", "")) and data not in NAMED_DATA:
        files = made_by.get("dataset_files")
        missing[PATH] = f"{data}, digest {files}" if files else data
    return missing
