"""What a user tells ``load`` of how images become input: a usual way, and what differs from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from vgg_deploy.errors import UsageError, VggDeployError, counted, unknown_choice
from vgg_deploy.model.torchvision import imagenet_preprocessing
from vgg_deploy.spec import ModelSpec, Preprocessing

PreprocessingName = Literal["imagenet", "scale"]
PREPROCESSINGS: tuple[PreprocessingName, ...] = get_args(PreprocessingName)
_LARGEST_SIDE = 65_536
_LARGEST = 3e38  # about that of float32


@dataclass(frozen=True, kw_only=True)
class AskedPreprocessing:
    """Parts that are None are as usual, or as the weights say.

    Raises ``UsageError`` for what is no preprocessing of any network.
    """

    name: PreprocessingName | None = None  # None: imagenet for three channels
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: int | Literal["square"] | None = None  # shorter side in pixels, before a centre crop
    value_range: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.name is not None and self.name not in PREPROCESSINGS:
            error = unknown_choice("preprocessing", self.name, PREPROCESSINGS)
            raise UsageError(
                error.cause, f"{error.remedy}; --mean, --std and --resize tell another one"
            )
        if isinstance(self.resize, int) and not 1 <= self.resize <= _LARGEST_SIDE:
            raise UsageError(
                "resize is out of range", f"choose resize from 1 to {_LARGEST_SIDE:,}, or square"
            )
        if self.value_range is not None and len(self.value_range) != 2:
            raise UsageError(
                f"value range of {counted(len(self.value_range), 'number')}",
                "give the lowest and the highest value, for example 0,255",
            )

    @property
    def told(self) -> dict[str, str]:
        """What was told, as words by option, the way ``made_by`` keeps it."""
        words = {
            "preprocessing": self.name,
            "mean": _listed(self.mean),
            "std": _listed(self.std),
            "resize": None if self.resize is None else str(self.resize),
            "value_range": _listed(self.value_range),
        }
        return {option: word for option, word in words.items() if word is not None}

    @property
    def as_options(self) -> str:
        """What was told, as it is typed."""
        return " ".join(f"--{o.replace('_', '-')} {word}" for o, word in self.told.items())

    def of(self, spec: ModelSpec, own: Preprocessing | None = None) -> Preprocessing:
        """The preprocessing of a network, whose weights may say their ``own``."""
        base = own if own is not None and self.name is None else _usual(spec, self.name)
        side = base.resize if self.resize is None else self.resize
        low, high = self.value_range or base.value_range
        made = replace(
            base,
            mean=self.mean or base.mean,
            std=self.std or base.std,
            resize=None if isinstance(side, str) else side,
            value_range=(low, high),
        )
        if not max(map(abs, made.input_range)) < _LARGEST:
            raise UsageError(
                "mean and standard deviation give values that float32 does not hold",
                "use those that the network was trained with",
            )
        return made


UNTOLD = AskedPreprocessing()


def asked_of(words: Mapping[str, str | None]) -> AskedPreprocessing:
    """What the words say, by option: those of a command line, or of ``made_by``."""
    return AskedPreprocessing(
        name=cast("PreprocessingName | None", words.get("preprocessing")),
        mean=_numbers(words, "mean"),
        std=_numbers(words, "std"),
        resize=_side(words.get("resize")),
        value_range=_numbers(words, "value_range"),
    )


def asked_before(made_by: Mapping[str, str]) -> AskedPreprocessing:
    """What an earlier ``load`` was told, by its records; nothing where they cannot be read."""
    try:
        return asked_of(made_by)
    except VggDeployError:
        return UNTOLD


def _numbers(words: Mapping[str, str | None], option: str) -> tuple[float, ...] | None:
    text = words.get(option)
    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f"{option.replace('_', ' ')} {text!r} is not a list of numbers",
            "write them with commas and without spaces, for example 0.5,0.5,0.5",
        ) from error


def _side(text: str | None) -> int | Literal["square"] | None:
    if text is None:
        return None
    if text == "square":
        return "square"
    if not (text.isdecimal() and len(text) < 10):
        raise UsageError(
            f"resize {text!r} is neither a number of pixels nor square",
            "give the shorter side before the centre crop, or square for one without a crop",
        )
    return int(text)


def _listed(values: tuple[float, ...] | None) -> str | None:
    return None if values is None else ",".join(repr(v).removesuffix(".0") for v in values)


def _usual(spec: ModelSpec, name: PreprocessingName | None) -> Preprocessing:
    """ImageNet's for three channels, 0..1 for one: what such weights are usually trained with."""
    if name == "imagenet" and spec.channels != 3:
        raise UsageError(
            f"ImageNet's preprocessing is for 3 channels, the network takes {spec.channels}",
            "leave --preprocessing out, or use scale",
        )
    if spec.channels == 3 and name != "scale":
        return imagenet_preprocessing(spec.size)
    zeros, ones = (0.0,) * spec.channels, (1.0,) * spec.channels
    return Preprocessing(size=spec.size, channels=spec.channels, mean=zeros, std=ones)
