"""Make a bundle from torchvision's weights or from a local file."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import replace as changed
from pathlib import Path
from typing import Literal, get_args

from vgg_deploy.bundle import Bundle, create_bundle
from vgg_deploy.environment import versions
from vgg_deploy.errors import RefusedInput, UsageError, require_file, unknown_choice
from vgg_deploy.files import shown
from vgg_deploy.manifest import Draft
from vgg_deploy.model.checkpoint import input_spec, output_spec, save_checkpoint
from vgg_deploy.model.infer import infer_spec
from vgg_deploy.model.state_file import read_state
from vgg_deploy.model.torchvision import (
    Loaded,
    fitted,
    has_card,
    imagenet_preprocessing,
    load_file,
    load_torchvision,
)
from vgg_deploy.replacing import TRAINING, refuse_existing
from vgg_deploy.spec import Head, ModelCard, ModelSpec, Preprocessing, unnamed_labels

PreprocessingName = Literal["imagenet", "scale"]
PREPROCESSINGS: tuple[PreprocessingName, ...] = get_args(PreprocessingName)
SIZE, ASSUMED = "size", "assumed"  # in made_by, where neither weights nor options say it
_FILE_ENDINGS = (".safetensors", ".pth", ".pt", ".bin")


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Which weights, and what a file without a model card cannot say itself."""

    weights: str
    arch: str | None = None
    size: int | None = None
    classes: int | None = None
    head: Head | None = None
    labels: Path | None = None
    ceil_mode: bool = False
    preprocessing: PreprocessingName | None = None  # None: imagenet for three channels

    def __post_init__(self) -> None:
        if self.preprocessing is not None and self.preprocessing not in PREPROCESSINGS:
            raise unknown_choice("preprocessing", self.preprocessing, PREPROCESSINGS)


def load_bundle(root: Path, options: LoadOptions, *, replace: bool = False) -> Bundle:
    """Read the weights, check them against the network, and make the bundle ``root``."""
    refuse_existing(root, replace=replace, make=False)
    weights = Path(options.weights).resolve()
    if any((root / name).resolve() in weights.parents for name in (TRAINING, "results")):
        raise UsageError(
            f"{weights} lies in the bundle that is to be replaced, and would go with it",
            "copy it elsewhere first, or choose another folder with -o",
        )
    loaded = _read(options)
    card = loaded.card
    draft = Draft(
        format="checkpoint",
        precision="fp32",
        input=input_spec(card),
        output=output_spec(card),
        parent=None,
        made_by={
            "weights": shown(loaded.source),
            "labels": "given" if options.labels else "own",
            **({"preprocessing": options.preprocessing} if options.preprocessing else {}),
            **({"ceil_mode": "True"} if options.ceil_mode else {}),
            **({SIZE: ASSUMED} if _assumes_size(options, card.spec) else {}),
            **versions("vgg-deploy", "torch", "safetensors"),
        },
    )
    bundle, _ = create_bundle(
        root, card, draft, lambda path: save_checkpoint(path, card, loaded.state), replace=replace
    )
    return bundle


def _assumes_size(options: LoadOptions, spec: ModelSpec) -> bool:
    """Whether nothing tells the input size: a map of 1×1 may be a global average of any other."""
    unsaid = spec.head == "gap" or spec.map_sizes[-1] == 1
    return options.size is None and unsaid and not has_card(Path(options.weights))


def _read(options: LoadOptions) -> Loaded:
    path = Path(options.weights)
    if path.suffix not in _FILE_ENDINGS and not path.exists():
        return _said(options, load_torchvision(options.weights))
    require_file(path, "weights file")
    if has_card(path):
        return _said(options, load_file(path))
    if options.arch is None:
        raise UsageError(
            f"{path} does not say what network it is for", "name it, for example --arch vgg16"
        )
    state = read_state(path)
    spec = infer_spec(
        state, options.arch, size=options.size, head=options.head, ceil_mode=options.ceil_mode
    )
    fits = fitted(spec, state, source=str(path))  # a wrong --arch before what would follow from it
    _same_classes(options, spec)
    card = ModelCard(
        spec=spec,
        preprocessing=_preprocessing(spec, options.preprocessing),
        labels=_labels(options, spec.classes),
    )
    return Loaded(card, fits, str(path))


def _said(options: LoadOptions, loaded: Loaded) -> Loaded:
    """Weights that say themselves what they are: only the labels may be other ones."""
    spec = loaded.card.spec
    for name, given, own in (
        ("arch", options.arch, spec.arch),
        ("size", options.size, spec.size),
        ("head", options.head, spec.head),
        ("ceil-mode", "on" if options.ceil_mode else None, "on" if spec.ceil_mode else "off"),
        ("preprocessing", options.preprocessing, "what it was trained with"),
    ):
        if given not in (None, own):
            raise UsageError(
                f"--{name} {given} contradicts {options.weights}, which says {own}",
                f"leave --{name} out: these weights say themselves what network they are for",
            )
    _same_classes(options, spec)
    if options.labels is None:
        return loaded
    return changed(loaded, card=changed(loaded.card, labels=_labels(options, spec.classes)))


def _same_classes(options: LoadOptions, spec: ModelSpec) -> None:
    if options.classes not in (None, spec.classes):
        raise RefusedInput(
            f"{options.weights} has {spec.classes} classes, not {options.classes}",
            "leave --classes out, or train a network with that many classes",
        )


def _preprocessing(spec: ModelSpec, asked: PreprocessingName | None) -> Preprocessing:
    """ImageNet's for three channels, 0..1 for one: what such weights are usually trained with."""
    if asked == "imagenet" and spec.channels != 3:
        raise UsageError(
            f"ImageNet's preprocessing is for 3 channels, the network takes {spec.channels}",
            "leave --preprocessing out, or use scale",
        )
    if spec.channels == 3 and asked != "scale":
        return imagenet_preprocessing(spec.size)
    zeros, ones = (0.0,) * spec.channels, (1.0,) * spec.channels
    return Preprocessing(size=spec.size, channels=spec.channels, mean=zeros, std=ones)


def _labels(options: LoadOptions, classes: int) -> tuple[str, ...]:
    if options.labels is None:
        return unnamed_labels(classes)
    require_file(options.labels, "labels file")
    try:
        lines = options.labels.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise RefusedInput(
            f"{options.labels} is not UTF-8 text", "give one label per line"
        ) from error
    labels = tuple(line.strip() for line in lines if line.strip())
    if len(labels) != classes:
        raise RefusedInput(
            f"{options.labels} has {len(labels)} labels for {classes} classes",
            "give one label per line, one per class",
        )
    return labels
