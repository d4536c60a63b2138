"""Options that several commands share, declared once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vgg_deploy.artifact import FORMATS, PRECISIONS, Precision
from vgg_deploy.errors import UsageError, unknown_choice
from vgg_deploy.spec import ARCHS, HEADS, Head

if TYPE_CHECKING:
    from vgg_deploy.embed.targets import TargetName


def complete(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """Shell completion; ``names`` is called, and may import, only when somebody presses Tab."""

    def matching(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return matching


def _formats() -> Iterable[str]:
    from vgg_deploy.export.registry import EXPORT_FORMATS

    return EXPORT_FORMATS


def _backends() -> Iterable[str]:
    from vgg_deploy.backends import BACKENDS

    return BACKENDS


def _datasets() -> Iterable[str]:
    from vgg_deploy.data.fashion_mnist import DATASETS

    return DATASETS


def _precisions() -> Iterable[str]:
    from vgg_deploy.precision.convert import ONNX_PRECISIONS

    return ONNX_PRECISIONS


def given_path(text: str) -> Path:
    """A path; an empty one, of a variable that is not set, is refused."""
    if not text.strip():
        raise UsageError("the path is empty", 'give one; for the current folder write "."')
    return Path(text)


def named_data(text: str) -> str:
    """A data set's name or folder; an empty one, of a variable that is not set, is refused."""
    if not text.strip():
        raise UsageError(
            "the name of the data set is empty",
            'give a name or a folder, or leave the option out; for the current folder write "."',
        )
    return text


BundleArgument = Annotated[
    Path,
    typer.Argument(
        help="Folder of the bundle.", metavar="BUNDLE", show_default=False, parser=given_path
    ),
]
OutOption = Annotated[
    Path,
    typer.Option(
        "--out", "-o", help="Folder of the new bundle.", metavar="BUNDLE", parser=given_path
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
StoreOption = Annotated[
    bool,
    typer.Option(help="Store the results in the bundle; without, they are printed and no more."),
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="Replace a bundle that is already there.")
]
ArchOption = Annotated[
    str,
    typer.Option(
        help="vgg11 … vgg19, *_bn, or blocks such as 1x16-1x32-2x64 (num_convs x channels).",
        autocompletion=complete(lambda: ARCHS),
    ),
]
WidthOption = Annotated[
    float, typer.Option(help="Factor on all convolution channels; the book uses 0.25.")
]
SizeOption = Annotated[int, typer.Option(help="Input height and width in pixels.")]
ChannelsOption = Annotated[int, typer.Option(help="Input channels: 1 or 3.")]
ClassesOption = Annotated[int, typer.Option(help="Number of classes.")]
HeadOption = Annotated[
    str,
    typer.Option(
        help="book: flatten the last map; torchvision: 7×7 adaptive pool; gap: average each map.",
        autocompletion=complete(lambda: HEADS),
    ),
]
CeilOption = Annotated[
    bool, typer.Option("--ceil-mode", help="Pooling keeps the last row of an odd map.")
]
FcWidthOption = Annotated[int, typer.Option(help="Width of the hidden fully connected layers.")]
HiddenOption = Annotated[int, typer.Option(help="Hidden fully connected layers: 0, 1 or 2.")]
OptionalDataOption = Annotated[
    str | None,
    typer.Option(
        help="Data set of the images, by name or as a folder with one per class. Without it "
        "Fashion-MNIST or its sample; a model of other data needs its own for the accuracy.",
        metavar="<str>",
        parser=named_data,
        autocompletion=complete(_datasets),
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the four Fashion-MNIST files.", metavar="<path>", parser=given_path
    ),
]
FormatsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        "-f",
        help="torchscript, onnx, program or aoti; may be repeated. Default: all; with "
        "--precision onnx.",
        autocompletion=complete(_formats),
    ),
]
OnlyFormatsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--format",
        "-f",
        help="Only torchscript, onnx, program, aoti, embedded, engine or checkpoint; may be "
        "repeated.",
        autocompletion=complete(lambda: FORMATS),
    ),
]
PrecisionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--precision",
        "-p",
        help="fp32, fp16, bf16, int8 or fp8, of the ONNX file; may be repeated.",
        autocompletion=complete(_precisions),
    ),
]
OnlyPrecisionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--precision",
        "-p",
        help="Only what runs in fp32, tf32, fp16, bf16, int8 or fp8; may be repeated.",
        autocompletion=complete(lambda: PRECISIONS),
    ),
]
CalibrationDataOption = Annotated[
    str | None,
    typer.Option(
        help="Data set, or folder of images, whose training images int8, fp8 and fp16 are "
        "measured on, with or without class folders; without it the data set the model was "
        "trained on.",
        metavar="<str>",
        parser=named_data,
        autocompletion=complete(_datasets),
    ),
]
CalibrationImagesOption = Annotated[
    int | None,
    typer.Option(
        help="How many images to measure on, and as many again to compare on. Default: as many "
        "as for the file that is there of the same data, else 128."
    ),
]
BackendsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        "-b",
        help="Only this backend; may be repeated. Without it all that are usable.",
        autocompletion=complete(_backends),
    ),
]
TimedBackendsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--backend",
        "-b",
        help="Only this backend; may be repeated. Without it all that bench timed.",
        autocompletion=complete(_backends),
    ),
]
FailIfOption = Annotated[
    list[str] | None,
    typer.Option(
        help='Fail where this holds, for example "p99_ms>20"; may be repeated. The unit is part '
        "of the name; cv is a fraction.",
        metavar="CONDITION",
    ),
]


def head_of(text: str) -> Head:
    """A head's name, or ``UsageError`` with the nearest one."""
    if text not in HEADS:
        raise unknown_choice("head", text, HEADS)
    return text


def target_of(text: str) -> TargetName:
    """A target of embed, or ``UsageError`` with the nearest one."""
    from vgg_deploy.embed.targets import TARGETS, unknown_target

    if text not in TARGETS:
        raise unknown_target(text)
    return text


def precision_of(text: str) -> Precision:
    """A precision's name, or ``UsageError`` with the nearest one."""
    if text not in PRECISIONS:
        raise unknown_choice("precision", text, PRECISIONS)
    return text


def positive(values: Sequence[int], what: str) -> tuple[int, ...]:
    """``values`` without repetition, or ``UsageError`` when one is below 1."""
    if bad := [value for value in values if value < 1]:
        raise UsageError(f"{what} {bad[0]} is below 1", f"use a {what} of at least 1")
    return tuple(dict.fromkeys(values))


def refuse_given(context: typer.Context, remedies: Mapping[str, str], why: str) -> None:
    """``UsageError`` for the first of these parameters that the command line names."""
    for option in context.command.params:
        remedy = remedies.get(option.name or "")
        source = context.get_parameter_source(option.name or "")
        if remedy and source is not None and source.name == "COMMANDLINE":
            named = [*option.opts, *option.secondary_opts]
            word = "/".join(name for name in named if name.startswith("--"))
            raise UsageError(f"{word} {why}", remedy)
