"""Make a bundle from torchvision's weights or from a local file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_deploy.bundle import Bundle, create_bundle
from vgg_deploy.environment import versions
from vgg_deploy.errors import RefusedInput, UsageError, counted, os_errors, require_file
from vgg_deploy.files import shown, word
from vgg_deploy.manifest import Draft
from vgg_deploy.model.checkpoint import (
    ASSUMED_KEY,
    input_spec,
    output_spec,
    read_header,
    save_checkpoint,
)
from vgg_deploy.model.infer import infer_spec
from vgg_deploy.model.state_file import StateFile, read_state_file
from vgg_deploy.model.torchvision import (
    Loaded,
    fitted,
    has_card,
    load_file,
    load_torchvision,
)
from vgg_deploy.pipeline.asked_preprocessing import UNTOLD, AskedPreprocessing
from vgg_deploy.pipeline.replaced import (
    asked_or_kept,
    bundle_before,
    holds,
    labels_or_kept,
    what_goes,
)
from vgg_deploy.replacing import TRAINING, refuse_existing
from vgg_deploy.report.model_tables import preprocessing_text
from vgg_deploy.spec import Head, ModelCard, ModelSpec, unnamed_labels

if TYPE_CHECKING:
    from torch import Tensor

# torchvision's enum members have a dot, too; whatever else has one is a file's name.
_ENUM = re.compile(r"\w+_Weights\.[A-Z]\w*|(?i:\w+\.imagenet\w*)")
_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin")
_ASSUMED = "preprocessing"
SIZE, ASSUMED = "size", "assumed"  # in made_by, where neither weights nor options say it


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Which weights, and what a file without a model card cannot say itself."""

    weights: str
    key: str | None = None  # of several state dicts in a file
    arch: str | None = None
    size: int | None = None
    classes: int | None = None
    head: Head | None = None
    labels: Path | None = None
    ceil_mode: bool = False
    preprocessing: AskedPreprocessing = UNTOLD


@dataclass(frozen=True, kw_only=True)
class _Read:
    """Weights with their card, what of it was assumed, and what a user is to know of that."""

    loaded: Loaded
    labels: str = "own"  # or given, or kept
    asked: AskedPreprocessing = UNTOLD
    assumed: str = ""
    key: str | None = None
    notes: tuple[str, ...] = ()


def load_bundle(
    root: Path,
    options: LoadOptions,
    *,
    replace: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Read the weights, check them against the network, and make the bundle ``root``.

    A bundle that already holds just these is left as it is. ``say`` is told what was taken,
    kept and removed, a line each.
    """
    refuse_existing(root, replace=replace, make=False)
    _refuse_inside(root, options.weights)
    before = bundle_before(root)
    read = _read(options, before)
    for note in read.notes:
        say(note)
    card, state = read.loaded.card, read.loaded.state
    if before and holds(before, card, state, read.assumed):
        say(f"{root} already holds these weights and this card: nothing is changed")
        return before
    goes = what_goes(root, before)
    bundle, _ = create_bundle(
        root,
        card,
        _draft(options, read),
        lambda path: save_checkpoint(path, card, state, assumed=read.assumed),
        replace=replace,
    )
    if goes:
        say(f"removed with the weights before: {', '.join(goes)}")
    say(_made(root, card))
    return bundle


def _made(root: Path, card: ModelCard) -> str:
    spec = card.spec
    return (
        f"made {root}: {spec.arch}, {spec.size} px, {counted(spec.classes, 'class', 'classes')}; "
        f"images: {preprocessing_text(card.preprocessing)}"
    )


def _refuse_inside(root: Path, weights: str) -> None:
    path = Path(weights).resolve()
    if any((root / name).resolve() in path.parents for name in (TRAINING, "results")):
        raise UsageError(
            f"{path} lies in the bundle that is to be replaced, and would go with it",
            "copy it elsewhere first, or choose another folder with -o",
        )


def _draft(options: LoadOptions, read: _Read) -> Draft:
    card = read.loaded.card
    return Draft(
        format="checkpoint",
        precision="fp32",
        input=input_spec(card),
        output=output_spec(card),
        parent=None,
        made_by={
            "weights": shown(read.loaded.source),
            **({"key": shown(read.key)} if read.key is not None else {}),
            "labels": read.labels,
            **read.asked.told,
            **({"ceil_mode": "True"} if options.ceil_mode else {}),
            **({SIZE: ASSUMED} if _assumes_size(options, card.spec) else {}),
            **versions("vgg-deploy", "torch", "safetensors"),
        },
    )


def _assumes_size(options: LoadOptions, spec: ModelSpec) -> bool:
    """Whether nothing tells the input size: a map of 1×1 may be a global average of any other."""
    unsaid = spec.head == "gap" or spec.map_sizes[-1] == 1
    return options.size is None and unsaid and not has_card(Path(options.weights))


def _read(options: LoadOptions, before: Bundle | None) -> _Read:
    path = Path(options.weights)
    if not _is_file(options.weights):
        return _said(options, load_torchvision(options.weights), before)
    _refuse_folder(path)
    require_file(path, "weights file")
    if has_card(path):
        return _said(options, load_file(path), before, read_header(path).get(ASSUMED_KEY, ""))
    file = read_state_file(path, options.key)  # first: what holds no weights needs no --arch
    if options.arch is None:
        raise UsageError(
            f"{path} does not say what network it is for", "name it, for example --arch vgg16"
        )
    spec = infer_spec(
        file.state, options.arch, size=options.size, head=options.head, ceil_mode=options.ceil_mode
    )
    # first: a wrong --arch is to blame for what would follow from it
    fits = fitted(spec, file.state, source=str(path))
    _same_classes(options, spec)
    asked, kept = asked_or_kept(options.preprocessing, spec, before)
    labels = labels_or_kept(options.labels, unnamed_labels(spec.classes), before)
    unsaid = f"the weights do not tell their input size: {spec.size} px was taken, see --size"
    sized = (unsaid,) if _assumes_size(options, spec) else ()
    return _Read(
        loaded=Loaded(
            ModelCard(spec=spec, preprocessing=asked.of(spec), labels=labels.names),
            fits,
            str(path),
        ),
        labels=labels.source,
        asked=asked,
        assumed="" if asked.told else _ASSUMED,
        key=file.key,
        notes=(*_of_the_file(file), *sized, *kept, *labels.notes),
    )


def _is_file(weights: str) -> bool:
    """Whether this is the path of a file, there or not, and no name of torchvision's."""
    path = Path(weights)
    if path.exists() or any(mark in weights for mark in (os.sep, os.altsep) if mark):
        return True
    return bool(path.suffix) and not _ENUM.fullmatch(weights)


def _refuse_folder(path: Path) -> None:
    """A folder is refused with a file of weights in it as the remedy."""
    if path.is_dir():
        with os_errors(f"look into {path}"):
            files = [p for p in sorted(path.iterdir()) if p.suffix in _WEIGHTS and p.is_file()]
        example = f", for example {word(files[0])}" if files else ""
        raise RefusedInput(f"{path} is a folder", f"give a file of weights{example}")


def _said(options: LoadOptions, loaded: Loaded, before: Bundle | None, assumed: str = "") -> _Read:
    """Weights that say themselves what they are: all but labels and what was assumed holds."""
    spec = loaded.card.spec
    for name, given, own in (
        ("arch", options.arch, spec.arch),
        ("size", options.size, spec.size),
        ("head", options.head, spec.head),
        ("ceil-mode", "on" if options.ceil_mode else None, "on" if spec.ceil_mode else "off"),
        ("key", options.key, "a single state dict"),
    ):
        if given not in (None, own):
            raise _contradiction(f"--{name} {given}", options.weights, str(own))
    _same_classes(options, spec)
    card, asked = loaded.card, options.preprocessing
    kept: tuple[str, ...] = ()
    if assumed:
        asked, kept = asked_or_kept(asked, spec, before)
    elif asked.told and asked.of(spec, card.preprocessing) != card.preprocessing:
        raise _contradiction(asked.as_options, options.weights, "what it was trained with")
    labels = labels_or_kept(options.labels, card.labels, before)
    card = changed(card, labels=labels.names, preprocessing=asked.of(spec, card.preprocessing))
    return _Read(
        loaded=changed(loaded, card=card),
        labels=labels.source,
        asked=asked,
        assumed="" if asked.told else assumed,
        notes=(*kept, *labels.notes),
    )


def _contradiction(given: str, weights: str, own: str) -> UsageError:
    options = " and ".join(given.split(" ")[::2])
    return UsageError(
        f"{given} contradicts {weights}, which says {own}",
        f"leave {options} out: these weights say themselves what network they are for",
    )


def _same_classes(options: LoadOptions, spec: ModelSpec) -> None:
    if options.classes not in (None, spec.classes):
        raise RefusedInput(
            f"{options.weights} has {counted(spec.classes, 'class', 'classes')}, "
            f"not {options.classes}",
            "leave --classes out, or train a network with that many classes",
        )


def _of_the_file(file: StateFile) -> Iterator[str]:
    """Which weights these are, where the file leaves a choice or they become others."""
    if file.key is not None:
        also = f"; also there, for --key: {', '.join(file.others)}" if file.others else ""
        yield f"weights: {file.key}{also}"
    dtypes = dict.fromkeys(map(_dtype, file.state.values()))
    if others := [name for name in dtypes if name not in ("float32", "")]:
        yield f"weights in {', '.join(others)} are stored as float32"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.") if tensor.is_floating_point() else ""
