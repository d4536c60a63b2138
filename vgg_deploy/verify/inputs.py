"""What a backend is verified with: real images, seeded noise, and the edges 0 and 255."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.artifact import TensorSpec
from vgg_deploy.data.images import to_channels
from vgg_deploy.data.patterns import hard_to_divide, scene
from vgg_deploy.data.preprocess import preprocess, resized_exact
from vgg_deploy.errors import RefusedInput, counted
from vgg_deploy.spec import Preprocessing

NOISE_IMAGES = 4
MIN_REAL = 8  # fewer real images prove nothing
_ROUNDING = 1e-5  # of the input's range


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The same images twice: preprocessed, and as pixels for files that preprocess themselves.

    ``batch`` is float32 ``[N, C, S, S]``; ``pixels`` are uint8 ``[n, H, W, C]`` in groups of one
    size, together N images in the same order; ``counts`` has the kinds of images, in that order,
    too. ``real`` says which groups are real images, ``ready`` which ones a file that does not
    resize makes the same of as ``batch`` has.
    """

    batch: NDArray[np.float32]
    pixels: tuple[NDArray[np.uint8], ...]
    names: tuple[str, ...]
    counts: Mapping[str, int]
    source: str
    real: tuple[bool, ...]
    ready: tuple[bool, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the preprocessed images."""
        return hashlib.sha256(np.ascontiguousarray(self.batch).data).hexdigest()

    def of_kind(self, kind: str) -> NDArray[np.intp]:
        """Indices of the images of a kind that ``counts`` names."""
        start = sum(self.counts[k] for k in takewhile(lambda k: k != kind, self.counts))
        return np.arange(start, start + self.counts[kind])

    def parts(self, spec: TensorSpec) -> list[tuple[int, int]]:
        """First and last index (exclusive) of the images that fit into one batch of an input.

        Pixels of another size than the input's own are left out. Raises ``RefusedInput`` where
        too few real images are among the rest.
        """
        if spec.dtype != "uint8":
            return [(0, len(self.batch))]
        ends = np.cumsum([len(group) for group in self.pixels])
        fixed = takes_one_size(spec)
        kept = [
            i for i, group in enumerate(self.pixels)
            if _fits(group, spec) and (self.ready[i] or not fixed)
        ]  # fmt: skip
        refuse_few(sum(len(self.pixels[i]) for i in kept if self.real[i]), spec)
        return [(int(ends[i]) - len(self.pixels[i]), int(ends[i])) for i in kept]

    def take(self, indices: NDArray[np.intp], spec: TensorSpec) -> NDArray[np.generic]:
        """A batch of these images; pixels must be of one part."""
        if spec.dtype != "uint8":
            return self.batch[indices]
        return self._pixels(indices)

    def _pixels(self, indices: NDArray[np.intp]) -> NDArray[np.uint8]:
        start = 0
        for group in self.pixels:
            if indices[0] < start + len(group):
                return group[indices - start]
            start += len(group)
        raise IndexError(f"image {indices[0]} of {len(self.batch)}")

    def image(self, index: int) -> NDArray[np.uint8]:
        """The pixels of one image ``[H, W, C]``."""
        picture: NDArray[np.uint8] = self._pixels(np.array([index]))[0]
        return picture


def make_inputs(
    images: NDArray[np.uint8],
    source: str,
    preprocessing: Preprocessing,
    *,
    count: int,
    seed: int,
    resized: bool = False,
    files: Sequence[str] = (),
) -> Inputs:
    """``count`` images drawn from ``images`` ``[N, H, W, C]``, noise, all 0, all 255, other sizes.

    With ``resized`` also those that have another size than the network, as an app would give
    them to a file that does not resize: at the network's size, rounded to uint8. Images are named
    by ``files``, or without them by their index.

    Raises ``RefusedInput`` for images that cannot support a verdict: too few, all alike, or
    preprocessed to values that the model's card does not allow.
    """
    p, random = preprocessing, np.random.default_rng(seed)
    chosen = np.sort(random.choice(len(images), size=min(count, len(images)), replace=False))
    real = to_channels(images[chosen], p.channels)
    shape = (NOISE_IMAGES + 2, *(p.resize or p.size,) * 2, p.channels)
    synthetic = random.integers(0, 256, size=shape, dtype=np.uint8)
    synthetic[-2], synthetic[-1] = 0, 255
    kinds = [f"noise {index}" for index in range(NOISE_IMAGES)] + ["all 0", "all 255"]
    sizes = [_group(one, [name], p) for name, one in _sizes(p).items()]
    groups = [
        _group(real, [files[i] if files else f"{source} #{i}" for i in chosen], p, real=True),
        _group(synthetic, kinds, p),
        *sizes,
    ]
    refuse_unfit(real, np.concatenate([group.batch for group in groups]), p)
    counts = {"real": len(real), "noise": NOISE_IMAGES, "edge": 2, "sizes": len(sizes)}
    if again := [_rescaled(group, p) for group in groups[:2] if resized and not group.ready]:
        counts["resized"] = sum(len(group.names) for group in again)
    groups += again
    return Inputs(
        batch=np.concatenate([group.batch for group in groups]),
        pixels=tuple(group.pixels for group in groups),
        names=tuple(name for group in groups for name in group.names),
        counts=counts,
        source=source,
        real=tuple(group.real for group in groups),
        ready=tuple(group.ready for group in groups),
    )


@dataclass(frozen=True)
class _Group:
    """Images of one size, before and after preprocessing."""

    pixels: NDArray[np.uint8]
    batch: NDArray[np.float32]
    names: Sequence[str]
    real: bool
    ready: bool


def _group(
    pixels: NDArray[np.uint8], names: Sequence[str], p: Preprocessing, *, real: bool = False
) -> _Group:
    return _Group(pixels, preprocess(pixels, p), names, real, is_ready(pixels, p))


def _rescaled(group: _Group, p: Preprocessing) -> _Group:
    """The same images at the network's size, where nothing is left to be resized or cropped."""
    names = [f"{name}, resized" for name in group.names]
    small = network_size(group.pixels, p)
    return _group(small, names, replace(p, resize=None), real=group.real)


def takes_one_size(spec: TensorSpec) -> bool:
    """Whether an input takes pixels of one height and width only."""
    return spec.dtype == "uint8" and all(isinstance(side, int) for side in spec.shape[1:3])


def is_ready(images: NDArray[np.uint8], p: Preprocessing) -> bool:
    """Whether preprocessing leaves the size of these ``[N, H, W, C]`` as it is."""
    return p.resize is None and images.shape[1:3] == (p.size, p.size)


def network_size(images: NDArray[np.uint8], p: Preprocessing) -> NDArray[np.uint8]:
    """Images ``[N, H, W, C]`` resized and cropped as preprocessing does, rounded to uint8."""
    if is_ready(images, p):
        return images
    pixels = np.clip(np.rint(resized_exact(images, p)), 0, 255)
    return np.ascontiguousarray(pixels.astype(np.uint8).transpose(0, 2, 3, 1))


def _sizes(p: Preprocessing) -> dict[str, NDArray[np.uint8]]:
    """Images that have to be scaled down: a resize without antialias shows nowhere else.

    With a centre crop their shorter side is one that shows a sloppy division, too.
    """
    side = p.resize or p.size
    shapes = {
        "landscape": hard_to_divide(3 * side // 2, 2 * side + 3, p.resize),
        "portrait": hard_to_divide(2 * side + 1, 4 * side // 3, p.resize),
        "very wide": (5, 3 * side),
    }
    return {
        name: scene(*shape, p.channels, seed=seed)[np.newaxis]
        for seed, (name, shape) in enumerate(shapes.items())
    }


def _fits(group: NDArray[np.uint8], spec: TensorSpec) -> bool:
    sides = zip(spec.shape[1:], group.shape[1:], strict=True)
    return all(isinstance(want, str) or want == have for want, have in sides)


def refuse_few(real: int, spec: TensorSpec) -> None:
    """Refuse to judge an input of one size that too few real images have."""
    if real < MIN_REAL:
        height, width = spec.shape[1:3]
        raise RefusedInput(
            f"it takes images of {height}×{width} pixels only, and {real} of the real ones have "
            f"that size: {MIN_REAL} are needed for a verdict",
            "export it with a resize, or verify with images of that size",
        )


def refuse_unfit(
    real: NDArray[np.uint8], batch: NDArray[np.float32], preprocessing: Preprocessing
) -> None:
    """Refuse inputs beside which a verdict would mean nothing."""
    if len(real) < MIN_REAL:
        raise RefusedInput(
            f"too few for a verdict: {counted(len(real), 'real image')}",
            f"verify with at least {MIN_REAL} images",
        )
    if np.ptp(real, axis=0).max() == 0:
        raise RefusedInput(
            "the real images are all the same", "verify with images as the model will see them"
        )
    low, high = preprocessing.input_range
    slack = _ROUNDING * (high - low)
    if batch.min() < low - slack or batch.max() > high + slack:
        raise RefusedInput(
            f"preprocessed images reach from {batch.min():.4g} to {batch.max():.4g}, the model's "
            f"card allows {low:.4g} to {high:.4g}",
            "check mean, std and value range in the bundle's card",
        )
