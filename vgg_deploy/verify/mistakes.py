"""What apps get wrong around a network, each as the input or the output it leads to.

An input mistake turns a raw image into the tensor a wrong app would feed; an output mistake turns
right logits into what a wrong app would report. Comparing an app's outputs with both says
which mistake it makes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.data.preprocess import (
    exact_weights,
    normalized,
    resized_exact,
    triangle_weights,
)
from vgg_deploy.spec import Preprocessing
from vgg_deploy.verify.compare import softmax

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Make = Callable[[Pixels, Preprocessing], Floats | None]
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R 601-2


@dataclass(frozen=True, kw_only=True)
class InputMistake:
    """``make`` gives ``[1, C, S, S]`` for pixels ``[1, H, W, C]``; None where it means nothing.

    Whether it means something depends on the preprocessing alone, not on the image.
    """

    cause: str
    make: Make


@dataclass(frozen=True, kw_only=True)
class OutputMistake:
    """``logits`` and ``probabilities`` as reported, from right logits ``[N, classes]``."""

    cause: str
    logits: Callable[[Floats], Floats] | None = None
    probabilities: Callable[[Floats], Floats] | None = None


def _right(image: Pixels, p: Preprocessing) -> Floats:
    return normalized(resized_exact(image, p), p)


def _swapped(image: Pixels, p: Preprocessing) -> Floats | None:
    return _right(image[..., ::-1], p) if p.channels == 3 else None


def _grey(image: Pixels, p: Preprocessing) -> Floats | None:
    if p.channels != 3:
        return None
    grey = np.round(image @ _LUMA)[..., np.newaxis]
    return _right(np.repeat(grey, 3, axis=3).astype(np.uint8), p)


def _other_statistics(image: Pixels, p: Preprocessing) -> Floats | None:
    if p.channels != 3:
        return None
    return _right(image, replace(p, mean=_IMAGENET[0], std=_IMAGENET[1]))


def _twice(image: Pixels, p: Preprocessing) -> Floats:
    mean, std = (np.array(v)[:, None, None] for v in (p.mean, p.std))
    result: Floats = (_right(image, p) - mean) / std
    return result


def _mixed(image: Pixels, p: Preprocessing) -> Floats | None:
    """Bytes of ``[S, S, C]`` read as ``[C, S, S]``."""
    if p.channels == 1:
        return None
    pixels = resized_exact(image, p)
    return normalized(pixels.transpose(0, 2, 3, 1).reshape(pixels.shape), p)


def _sides_exchanged(image: Pixels, p: Preprocessing) -> Floats:
    """Height and width exchanged where the bytes are given a shape."""
    count, height, width, channels = image.shape
    return _right(image.reshape(count, width, height, channels), p)


def _squashed(image: Pixels, p: Preprocessing) -> Floats | None:
    """The whole image in the network's square, where training had a centre crop."""
    return _right(image, replace(p, resize=None)) if p.resize else None


def _cropped(image: Pixels, p: Preprocessing) -> Floats | None:
    """A centre crop where training had the whole image."""
    return None if p.resize else _right(image, replace(p, resize=p.size))


def _letterboxed(image: Pixels, p: Preprocessing) -> Floats:
    """The longer side fitted, the rest black."""
    height, width = image.shape[1:3]
    side = max(height, width)
    padded = np.zeros((1, side, side, image.shape[3]), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    padded[:, top : top + height, left : left + width] = image
    return _right(padded, replace(p, resize=None))


def _bilinear(n_in: int, n_out: int, start: int, count: int) -> Floats:
    return triangle_weights(n_in, n_out, start, count)


def _at(position: Floats, n_in: int) -> Floats:
    """Bilinear weights at positions in whole pixels, the border repeated."""
    clipped = np.clip(position, 0, n_in - 1)
    distance = np.abs(np.arange(n_in)[None, :] - clipped[:, None])
    return np.maximum(0.0, 1.0 - distance)


def _nearest(n_in: int, n_out: int, start: int, count: int) -> Floats:
    rows = np.arange(start, start + count)
    return _at(np.floor(rows * (n_in / n_out)), n_in)


def _aligned(n_in: int, n_out: int, start: int, count: int) -> Floats:
    rows = np.arange(start, start + count, dtype=np.float64)
    return _at(rows * ((n_in - 1) / max(1, n_out - 1)), n_in)


def _cornered(n_in: int, n_out: int, start: int, count: int) -> Floats:
    rows = np.arange(start, start + count, dtype=np.float64)
    return _at(rows * (n_in / n_out), n_in)


INPUT_MISTAKES: Mapping[str, InputMistake] = {
    "bgr": InputMistake(cause="channels in the order BGR, not RGB", make=_swapped),
    "not-normalized": InputMistake(
        cause="mean and standard deviation are not applied",
        make=lambda i, p: normalized(
            resized_exact(i, p), replace(p, mean=(0.0,) * p.channels, std=(1.0,) * p.channels)
        ),
    ),
    "normalized-twice": InputMistake(
        cause="mean and standard deviation are applied twice (in the app and in the file?)",
        make=_twice,
    ),
    "not-scaled": InputMistake(
        cause="0 to 255 goes into the network as it is, neither scaled nor normalized",
        make=resized_exact,
    ),
    "scale-forgotten": InputMistake(
        cause="mean and standard deviation are applied to 0 to 255 instead of the scaled values",
        make=lambda i, p: normalized(resized_exact(i, p), replace(p, value_range=(0.0, 255.0))),
    ),
    "scaled-twice": InputMistake(
        cause="the pixels are divided by 255 twice",
        make=lambda i, p: normalized(resized_exact(i, p) / 255, p),
    ),
    "minus-one-to-one": InputMistake(
        cause="the pixels are scaled to -1 to 1",
        make=lambda i, p: resized_exact(i, p) / 127.5 - 1,
    ),
    "imagenet-statistics": InputMistake(
        cause="ImageNet's mean and standard deviation instead of the model's",
        make=_other_statistics,
    ),
    "no-antialias": InputMistake(
        cause="resized without antialias (plain bilinear)",
        make=lambda i, p: normalized(resized_exact(i, p, _bilinear), p),
    ),
    "nearest": InputMistake(
        cause="resized to the nearest pixel",
        make=lambda i, p: normalized(resized_exact(i, p, _nearest), p),
    ),
    "align-corners": InputMistake(
        cause="resized with align_corners",
        make=lambda i, p: normalized(resized_exact(i, p, _aligned), p),
    ),
    "asymmetric": InputMistake(
        cause="resized with pixel centres at zero instead of one half (asymmetric)",
        make=lambda i, p: normalized(resized_exact(i, p, _cornered), p),
    ),
    "resized-as-bytes": InputMistake(
        cause="resized as bytes: every pixel is rounded to a whole grey level",
        make=lambda i, p: normalized(np.round(resized_exact(i, p, exact_weights)), p),
    ),
    "nhwc-as-nchw": InputMistake(
        cause="NHWC data read as NCHW: the transpose is missing", make=_mixed
    ),
    "transposed": InputMistake(
        cause="rows and columns are exchanged",
        make=lambda i, p: _right(i, p).swapaxes(2, 3),
    ),
    "sides-exchanged": InputMistake(
        cause="height and width are exchanged where the bytes get their shape",
        make=_sides_exchanged,
    ),
    "upside-down": InputMistake(
        cause="rows from the bottom up", make=lambda i, p: _right(i[:, ::-1], p)
    ),
    "mirrored": InputMistake(
        cause="columns from the right to the left", make=lambda i, p: _right(i[:, :, ::-1], p)
    ),
    "inverted": InputMistake(
        cause="black and white exchanged", make=lambda i, p: _right(255 - i, p)
    ),
    "grey": InputMistake(cause="colour is dropped", make=_grey),
    "squashed": InputMistake(
        cause="the whole image is resized to the square, without the centre crop", make=_squashed
    ),
    "cropped": InputMistake(
        cause="a centre crop although the model was trained on whole images", make=_cropped
    ),
    "letterboxed": InputMistake(
        cause="the image is padded to a square instead of resized to it", make=_letterboxed
    ),
    "no-image": InputMistake(
        cause="the network gets zeros instead of the image",
        make=lambda i, p: np.zeros_like(_right(i, p)),
    ),
}

OUTPUT_MISTAKES: Mapping[str, OutputMistake] = {
    "double-softmax": OutputMistake(
        cause="softmax is applied twice (in the app and in the file?)",
        probabilities=lambda x: softmax(softmax(x)),
    ),
    "no-softmax": OutputMistake(
        cause="the probabilities are logits: softmax is missing", probabilities=lambda x: x
    ),
    "probabilities-as-logits": OutputMistake(
        cause="the logits are probabilities already", logits=softmax
    ),
    "log-softmax": OutputMistake(
        cause="the logits are logarithms of probabilities",
        logits=lambda x: np.log(np.maximum(softmax(x), 1e-300)),
    ),
    "sigmoid": OutputMistake(
        cause="a sigmoid per class instead of a softmax over all",
        probabilities=lambda x: (1 + np.tanh(x / 2)) / 2,  # without overflow
    ),
}

# The halves of one mistake: what each kind of output looks like when an app exchanges the two.
EXCHANGED = ["probabilities-as-logits", "no-softmax"]
