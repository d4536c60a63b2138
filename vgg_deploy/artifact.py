"""What a deployable file is: frozen values without any heavy import.

An ``Artifact`` is one file in a bundle and the record of what it is, where it came from
and every option that shaped its bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, get_args

from vgg_deploy.errors import UsageError

Format = Literal["checkpoint", "torchscript", "program", "aoti", "onnx", "embedded", "engine"]
Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8", "fp8"]
Layout = Literal["NCHW", "NHWC", "NC"]
Flavour = Literal["tensorrt", "tensorrt_rtx"]
Dtype = Literal["float32", "uint8"]  # numpy's names, of what goes in and comes out

FORMATS: tuple[Format, ...] = get_args(Format)
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

_RESTORE = "restore the file, or make the bundle again"
# File name endings; a plain name for the plain thing.
SUFFIX: Mapping[Format, str] = {
    "checkpoint": ".safetensors",
    "torchscript": ".torchscript.pt",
    "program": ".export.pt2",
    "aoti": ".aoti.pt2",
    "onnx": ".onnx",
    "embedded": ".embedded.onnx",  # uint8 image in, probabilities out
    "engine": ".plan",
}


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """One input or output: ``shape`` holds sizes, or the name of a dynamic axis."""

    name: str
    dtype: Dtype
    shape: tuple[int | str, ...]
    layout: Layout
    value_range: tuple[float, float] | None = None  # None: unbounded

    def __post_init__(self) -> None:
        """``UsageError`` for a shape that is not the layout's, or a range that is none."""
        sizes = [size if isinstance(size, int) else len(size) for size in self.shape]
        if len(sizes) != len(self.layout) or min(sizes) < 1:
            raise UsageError(f"{self.name} is {self.layout} of shape {list(self.shape)}", _RESTORE)
        low, high = self.value_range or (0, 1)
        if not 0 < high - low < math.inf:
            raise UsageError(f"{self.name} has values from {low:g} to {high:g}", _RESTORE)


@dataclass(frozen=True, kw_only=True)
class Target:
    """What an engine was built for."""

    flavour: Flavour
    version: str  # of the library: "10.14.1.48"
    compute_capability: str  # "8.9"; "8.0+" where newer GPUs may run it, too
    batches: tuple[tuple[int, int, int], ...] = ()  # smallest, best, largest of each profile


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One file of a bundle, as recorded in its manifest."""

    path: PurePosixPath  # relative to the bundle
    format: Format
    precision: Precision
    input: TensorSpec
    output: TensorSpec
    target: Target | None  # None: portable
    sha256: str
    size_bytes: int
    parent: str | None  # sha256 of what it was made from
    made_by: Mapping[str, str]  # versions and every option that shaped the bytes


def file_name(format: Format, precision: Precision, target: Target | None = None) -> str:
    """Name of an artifact inside its bundle: ``model.fp32.onnx``, ``checkpoint.safetensors``.

    The embedded fp32 file is what apps ship, so it has the plain name ``model.embedded.onnx``. An
    engine's name tells its library's major version and its GPU: ``model.fp16.trt11.sm90.plan``.
    """
    if format == "checkpoint":
        return "checkpoint" + SUFFIX[format]
    if (format, precision) == ("embedded", "fp32"):
        return "model" + SUFFIX[format]
    stem = f"model.{precision}"
    if target:
        library = "rtx" if target.flavour == "tensorrt_rtx" else "trt"
        major = target.version.split(".")[0]
        stem += f".{library}{major}.sm{target.compute_capability.replace('.', '')}"
    return stem + SUFFIX[format]
