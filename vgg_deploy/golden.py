"""Golden vectors: images with the reference's answers, for apps written in any language.

The format is told in docs/golden.md. ``golden/index.json`` names every image file with its
digest, so one digest of the index covers them all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vgg_deploy import jsonio
from vgg_deploy.artifact import PRECISIONS, Precision
from vgg_deploy.bounds import Count, Positive, Real
from vgg_deploy.errors import DigestMismatch, RefusedInput, UsageError, os_errors
from vgg_deploy.files import line_endings, sha256_of, word
from vgg_deploy.spec import Preprocessing

FOLDER = "golden"  # in the bundle
INDEX = "index.json"
VERSION = 1
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,100}")
_AGAIN = "export the bundle again: golden vectors are made with it"
_INDEX_VERSION = jsonio.Version(
    "version", VERSION, "use the version of vgg-deploy that made it, or export again"
)


@dataclass(frozen=True, kw_only=True)
class GoldenImage:
    """One image and the float64 reference's answer; numbers have 10 significant digits."""

    name: str
    file: str  # beside the index: height × width × channels bytes, row by row
    sha256: str
    height: Positive
    width: Positive
    channels: Positive
    top1: Count  # index of the reference's first class
    margin: Real  # its logit minus the second's: below twice the tolerance, top1 is not judged
    logits: tuple[Real, ...]
    probabilities: tuple[Real, ...]

    def __post_init__(self) -> None:
        """``RefusedInput`` for names that are no plain words: they stand in generated sources."""
        for given in (self.name, self.file):
            if not _PLAIN.fullmatch(given):
                raise RefusedInput(
                    f"golden vectors name an image {given!r}, which is no plain file name",
                    _AGAIN,
                )


@dataclass(frozen=True, kw_only=True)
class GoldenTolerance:
    """Largest absolute difference of one value that is allowed."""

    logits: Real
    probabilities: Real


@dataclass(frozen=True, kw_only=True)
class GoldenIndex:
    """Contents of ``golden/index.json``."""

    format: Literal["vgg-deploy golden vectors"] = "vgg-deploy golden vectors"
    version: int = VERSION
    weights_sha256: str  # of the checkpoint; the same in the ONNX files' metadata
    reference: str  # how the answers were computed
    labels: Annotated[tuple[str, ...], Field(min_length=2)]
    preprocessing: Preprocessing
    tolerances: Mapping[Precision, GoldenTolerance]
    images: Annotated[tuple[GoldenImage, ...], Field(min_length=1)]

    def __post_init__(self) -> None:
        """``UsageError`` for answers that do not fit the labels, or a precision without a bound."""
        classes = len(self.labels)
        for image in self.images:
            if {len(image.logits), len(image.probabilities)} != {classes} or image.top1 >= classes:
                raise UsageError(f"{image.name} does not answer for {classes} classes", _AGAIN)
        if lacking := [name for name in PRECISIONS if name not in self.tolerances]:
            raise UsageError(f"it has no bound for {lacking[0]}", _AGAIN)


@dataclass(frozen=True, kw_only=True)
class AppOutput:
    """What an app computed for one golden image; at least one of the two."""

    name: str
    logits: tuple[float | None, ...] | None = None  # null in JSON: not finite
    probabilities: tuple[float | None, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class AppResults:
    """Contents of the file that an app under test writes."""

    format: Literal["vgg-deploy golden results"] = "vgg-deploy golden results"
    version: int = VERSION
    app: str = ""  # name and versions, for people
    precision: Precision = "fp32"
    images: tuple[AppOutput, ...]


@dataclass(frozen=True, kw_only=True)
class GoldenRecord:
    """The golden vectors as a bundle's manifest knows them."""

    sha256: str  # of the index
    size_bytes: int  # index and images
    parent: str  # sha256 of the checkpoint they were computed from
    made_by: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One golden image: the app's largest differences from the reference."""

    image: str
    logits: float | None  # None: not given or not finite
    probabilities: float | None
    top1_ok: bool
    reason: str  # empty: passed


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A mistake and how much of the app's error it leaves unexplained, 0 to 1 and beyond."""

    name: str
    cause: str
    residual: float


@dataclass(frozen=True, kw_only=True)
class Selfcheck:
    """The verdict; ``suspects`` are ordered, the first one ``explains`` the error or does not."""

    app: str
    precision: Precision
    verdict: Literal["equivalent", "different"]
    reason: str
    images: tuple[Judged, ...]
    suspects: tuple[Suspect, ...] = ()
    explained: bool = False
    within: Precision | None = None  # unexplained, but inside the bounds of this half precision

    @property
    def cause(self) -> str:
        """The likely cause in words; empty when none fits."""
        return self.suspects[0].cause if self.explained else ""


def load_index(folder: Path) -> GoldenIndex:
    """The index in a folder of golden vectors."""
    path = folder / INDEX
    if not path.exists():
        raise RefusedInput(
            f"{folder} holds no golden vectors",
            f"make them: vgg-deploy export {word(folder.parent)} --format onnx",
        )
    return jsonio.load(GoldenIndex, path, _INDEX_VERSION)


def blind_passes(values: NDArray[np.float64], bound: float) -> bool:
    """Whether one answer for all images is within ``bound`` of every one of ``[N, classes]``."""
    return bool(np.ptp(values, axis=0).max() <= 2 * bound)


def refuse_vacuous(index: GoldenIndex, precision: Precision) -> None:
    """Refuse to judge where an answer that ignores the image would pass, on all or most images.

    On most, it is played by the median over the images. The bound of int8 and fp8 is for nonsense
    only and wider than what differs between most images of a good network; bf16's stands in there.
    """
    logits = np.array([image.logits for image in index.images])
    bound = index.tolerances[precision].logits
    spread = float(np.median(np.abs(logits - np.median(logits, axis=0)).max(axis=1)))
    usual = min(bound, index.tolerances["bf16"].logits)
    if blind_passes(logits, bound) or spread <= usual:
        raise RefusedInput(
            f"the golden vectors are no yardstick at {precision}: the logits hardly depend on the "
            f"image (spread {spread:.1e}, bound {bound:.1e}), so an answer that ignores the image "
            "would pass",
            "check the checkpoint's weights: the network may have learned nothing",
        )


def load_image(folder: Path, image: GoldenImage) -> NDArray[np.uint8]:
    """Pixels ``[1, H, W, C]``; ``DigestMismatch`` when the file is not the one that was made."""
    if problem := _image_problem(folder, image):
        raise DigestMismatch(problem, f"make it again: vgg-deploy export {word(folder.parent)}")
    shape = (1, image.height, image.width, image.channels)
    return np.fromfile(folder / image.file, np.uint8).reshape(shape)


def record_of(folder: Path, parent: str, made_by: Mapping[str, str]) -> GoldenRecord:
    """What a manifest says about a folder of golden vectors."""
    return GoldenRecord(
        sha256=sha256_of(folder / INDEX),
        size_bytes=sum(path.stat().st_size for path in folder.iterdir()),
        parent=parent,
        made_by=dict(sorted(made_by.items())),
    )


def problem_of(folder: Path, record: GoldenRecord) -> str | None:
    """What is wrong with a folder of golden vectors, or None; every file is read."""
    path = folder / INDEX
    if not path.is_file():
        return f"{path} is missing"
    with os_errors(f"read {path}"):
        if sha256_of(path) != record.sha256:
            usual = "was changed: its SHA-256 differs from the manifest's"
            return f"{path} {line_endings(path, record.sha256) or usual}"
    try:
        images = load_index(folder).images
    except RefusedInput as error:
        return error.cause
    problems = (_image_problem(folder, image) for image in images)
    return next(filter(None, problems), None)


def _image_problem(folder: Path, image: GoldenImage) -> str | None:
    path = folder / image.file
    if not path.is_file():
        return f"{path} is missing"
    want = image.height * image.width * image.channels
    with os_errors(f"read {path}"):
        if path.stat().st_size > want and (problem := line_endings(path, image.sha256)):
            return f"{path} {problem}"
        if path.stat().st_size != want:
            return f"{path} has {path.stat().st_size:,} bytes instead of {want:,}"
        if sha256_of(path) != image.sha256:
            return f"{path} was changed: its SHA-256 differs from the index's"
    return None
