"""What a checkpoint is, without its weights: ``ModelSpec``, ``Preprocessing``, ``ModelCard``.

These values are stored in every bundle and read without torch. The architectures are the
columns of Table 1 in Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale
Image Recognition" (2015), in the notation of *Dive into Deep Learning* §7.2: ``conv_arch`` is
one ``(num_convs, out_channels)`` pair per block.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from vgg_deploy.errors import UsageError, counted, unknown_choice

Head = Literal["book", "torchvision", "gap"]
HEADS: tuple[Head, ...] = get_args(Head)
ConvArch = tuple[tuple[int, int], ...]
_MOST_CONVOLUTIONS, _MOST_CHANNELS = 1000, 65_536
NAMED_DATA = ("fashion-mnist", "sample")  # data sets that are had by their name alone

_A: ConvArch = ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512))
_B: ConvArch = ((2, 64), (2, 128), (2, 256), (2, 512), (2, 512))
_D: ConvArch = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))
_E: ConvArch = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))


@dataclass(frozen=True, kw_only=True)
class Arch:
    """One column of Table 1."""

    conv_arch: ConvArch
    column: str  # the letter in the paper
    pointwise: tuple[int, ...] = ()  # trailing 1×1 convolutions per block (column C)
    lrn: bool = False  # local response normalisation after the first convolution (A-LRN)
    batch_norm: bool = False  # not in the paper; torchvision's *_bn


ARCHS: Mapping[str, Arch] = {
    "vgg11": Arch(conv_arch=_A, column="A"),
    "vgg11_lrn": Arch(conv_arch=_A, column="A-LRN", lrn=True),
    "vgg13": Arch(conv_arch=_B, column="B"),
    "vgg16_1x1": Arch(conv_arch=_D, column="C", pointwise=(0, 0, 1, 1, 1)),
    "vgg16": Arch(conv_arch=_D, column="D"),
    "vgg19": Arch(conv_arch=_E, column="E"),
    "vgg11_bn": Arch(conv_arch=_A, column="A", batch_norm=True),
    "vgg13_bn": Arch(conv_arch=_B, column="B", batch_norm=True),
    "vgg16_bn": Arch(conv_arch=_D, column="D", batch_norm=True),
    "vgg19_bn": Arch(conv_arch=_E, column="E", batch_norm=True),
}


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything that decides the shapes of a VGG's weights and activations.

    ``conv_arch`` is unscaled, as in the paper; ``blocks`` applies ``width``. The ``hidden`` fully
    connected layers keep ``fc_width`` (4096) whatever the width, as in the book.

    Raises ``UsageError`` when the values do not make a network.
    """

    arch: str
    conv_arch: ConvArch
    pointwise: tuple[int, ...] = ()
    lrn: bool = False
    batch_norm: bool = False
    width: float = 1.0
    size: int = 224
    channels: int = 3
    classes: int = 1000
    fc_width: int = 4096
    dropout: float = 0.5
    head: Head = "book"
    ceil_mode: bool = False  # pooling keeps the last row and column of an odd map
    hidden: int = 2  # fully connected layers in front of the last one

    def __post_init__(self) -> None:
        _check_arch(self)
        _check_ranges(self)
        _check_size(self)

    @classmethod
    def named(
        cls,
        arch: str,
        *,
        width: float = 1.0,
        size: int = 224,
        channels: int = 3,
        classes: int = 1000,
        fc_width: int = 4096,
        head: Head = "book",
        ceil_mode: bool = False,
        hidden: int = 2,
    ) -> ModelSpec:
        """Spec of an architecture from ``ARCHS``, or of a custom one: ``"1x16-2x32"``."""
        entry = ARCHS.get(arch) or _custom(arch)
        return cls(
            arch=arch,
            conv_arch=entry.conv_arch,
            pointwise=entry.pointwise,
            lrn=entry.lrn,
            batch_norm=entry.batch_norm,
            width=width,
            size=size,
            channels=channels,
            classes=classes,
            fc_width=fc_width,
            head=head,
            ceil_mode=ceil_mode,
            hidden=hidden,
        )

    @property
    def blocks(self) -> ConvArch:
        """``conv_arch`` with the width factor applied, as the book's ``pair[1] // ratio``."""
        return tuple((n, max(1, int(c * self.width))) for n, c in self.conv_arch)

    @property
    def map_sizes(self) -> tuple[int, ...]:
        """Side of the square feature map: the input's, then after each block."""
        sizes = [self.size]
        for _ in self.conv_arch:
            sizes.append(-(-sizes[-1] // 2) if self.ceil_mode else sizes[-1] // 2)
        return tuple(sizes)

    @property
    def weight_layers(self) -> int:
        """Convolutions plus fully connected layers: 11, 13, 16 or 19 in the paper."""
        return sum(n for n, _ in self.conv_arch) + len(self.fc_layers)

    @property
    def fc_layers(self) -> tuple[str, ...]:
        """Names of the fully connected layers: fc8 is the last one of any head."""
        return fc_layers(self.hidden)

    @property
    def pooled_size(self) -> int:
        """Side of the map that the head flattens."""
        return {"book": self.map_sizes[-1], "torchvision": 7, "gap": 1}[self.head]

    @property
    def flat_features(self) -> int:
        """Input features of the first fully connected layer."""
        return self.blocks[-1][1] * self.pooled_size**2


def fc_layers(hidden: int) -> tuple[str, ...]:
    """Names of the fully connected layers of a head with up to two hidden ones."""
    return (*("fc6", "fc7")[:hidden], "fc8")


def _custom(text: str) -> Arch:
    """Parse ``"1x16-1x32-2x64"`` (num_convs × out_channels per block)."""
    if not re.fullmatch(r"\d+x\d+(-\d+x\d+)*(_bn)?", text):
        raise unknown_choice(
            "architecture", text, [*ARCHS, "or a conv_arch such as 1x16-1x32-2x64"]
        )
    if re.search(r"\d{10}", text):  # Python itself refuses to read more than 4,300 digits
        raise _too_large()
    pairs = (pair.split("x") for pair in text.removesuffix("_bn").split("-"))
    arch = tuple((int(n), int(c)) for n, c in pairs)
    return Arch(conv_arch=arch, column="custom", batch_norm=text.endswith("_bn"))


def _too_large() -> UsageError:
    return UsageError(
        "this conv_arch is no network that could be built",
        f"use at most {_MOST_CONVOLUTIONS:,} convolutions of at most {_MOST_CHANNELS:,} channels",
    )


_NAME = re.compile(r"[A-Za-z0-9._-]+")


def _check_arch(spec: ModelSpec) -> None:
    if not _NAME.fullmatch(spec.arch):  # it stands in reports and generated files
        raise UsageError(
            f"{spec.arch!r} is no name of an architecture",
            "use letters, digits, '.', '_' and '-'",
        )
    if not spec.conv_arch or any(n < 1 or c < 1 for n, c in spec.conv_arch):
        raise UsageError(
            f"conv_arch {spec.conv_arch} needs at least one block of one convolution",
            "write it as num_convs x out_channels per block, for example 1x16-1x32-2x64",
        )
    if sum(n for n, _ in spec.conv_arch) > _MOST_CONVOLUTIONS:
        raise _too_large()
    if max(c for _, c in spec.conv_arch) > _MOST_CHANNELS:
        raise _too_large()
    if spec.pointwise and len(spec.pointwise) != len(spec.conv_arch):
        raise UsageError(
            f"pointwise has {len(spec.pointwise)} entries for {len(spec.conv_arch)} blocks",
            "give one count of 1×1 convolutions per block",
        )


def _check_ranges(spec: ModelSpec) -> None:
    limits: tuple[tuple[str, float, float, float], ...] = (
        ("width", spec.width, 1 / 64, 8),
        ("size", spec.size, 1, 4096),
        ("channels", spec.channels, 1, 3),
        ("classes", spec.classes, 2, 1_000_000),
        ("fc_width", spec.fc_width, 1, 65_536),
        ("dropout", spec.dropout, 0, 0.99),
        ("hidden", spec.hidden, 0, 2),
    )
    for name, value, low, high in limits:
        if not low <= value <= high:
            raise UsageError(
                f"{name} {_short(value)} is out of range", f"choose {name} from {low:g} to {high:g}"
            )
    if spec.channels == 2:
        raise UsageError("2 channels are not supported", "use 1 (grey) or 3 (RGB)")
    if spec.head not in HEADS:
        raise unknown_choice("head", spec.head, HEADS)


def _short(value: float) -> str:
    try:
        return f"{value:g}"
    except OverflowError:  # an int, which has no largest value
        return "of hundreds of digits"


def _check_size(spec: ModelSpec) -> None:
    blocks = len(spec.conv_arch)
    sides = " → ".join(map(str, spec.map_sizes))
    if spec.map_sizes[-1] < 1:
        raise UsageError(
            f"an input of {spec.size} px is too small for {blocks} poolings: {sides}",
            f"use at least {2**blocks} px, or --ceil-mode (pooling then keeps odd rows)",
        )


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes the network's input; train, export, verify and predict share it.

    From uint8 ``[N, H, W, C]``: resize (bilinear, antialiased, pixel centres at one half) either
    to ``size × size`` or, when ``resize`` is given, the shorter side to ``resize`` followed by a
    centre crop; scale 0..255 to ``value_range``; subtract ``mean``, divide by ``std``;
    to float32 ``[N, C, size, size]``.
    """

    size: int  # pixels
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None  # shorter side before the centre crop
    interpolation: Literal["bilinear-antialias"] = "bilinear-antialias"
    value_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels:
            raise UsageError(
                f"{self.channels} channels with {len(self.mean)} means and {len(self.std)} "
                "standard deviations",
                "give one mean and one standard deviation per channel",
            )
        for name in ("mean", "std", "value_range"):
            if not all(map(math.isfinite, getattr(self, name))):
                raise UsageError(f"{name} {getattr(self, name)} is not finite", "use plain numbers")
        low, high = self.value_range
        if low >= high:
            raise UsageError(f"value range {low:g} to {high:g}", "give the lower end first")
        if min(self.std) <= 0:
            raise UsageError(f"standard deviation {min(self.std)}", "use values above 0")
        if self.resize is not None and self.resize < self.size:
            raise UsageError(
                f"resize {self.resize} is smaller than the crop of {self.size}",
                "resize to at least the crop",
            )

    @property
    def input_range(self) -> tuple[float, float]:
        """Smallest and largest value the network can see after normalisation."""
        low, high = self.value_range
        lows = [(low - m) / s for m, s in zip(self.mean, self.std, strict=True)]
        highs = [(high - m) / s for m, s in zip(self.mean, self.std, strict=True)]
        return (min(lows), max(highs))


def unnamed_labels(classes: int) -> tuple[str, ...]:
    """What stands for the labels of weights that came without any."""
    return tuple(f"class {index}" for index in range(classes))


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """A checkpoint's identity: spec, preprocessing and labels; everything but the weights."""

    spec: ModelSpec
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    dataset: str | None = None  # the data set it was trained on, if known

    def __post_init__(self) -> None:
        if len(self.labels) != self.spec.classes:
            raise UsageError(
                f"{counted(len(self.labels), 'label')} for "
                f"{counted(self.spec.classes, 'class', 'classes')}",
                "give one label per class",
            )
        if (self.preprocessing.size, self.preprocessing.channels) != (
            self.spec.size,
            self.spec.channels,
        ):
            raise UsageError(
                f"preprocessing makes {self.preprocessing.channels}×{self.preprocessing.size} px, "
                f"the network takes {self.spec.channels}×{self.spec.size} px",
                "give both the same size and channels",
            )
