"""The one preprocessing: train, verify and predict call it, exported graphs repeat it.

Resizing is two matrix products with the rows of a triangle filter. It is within 1e-4 (of 255)
of ``torch.nn.functional.interpolate(antialias=True)`` in float64 (torch's own float32 kernel is
up to 1e-3 away from that), and unlike ONNX's ``Resize`` it means the same in every runtime.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.data.crop import corner, resized_length
from vgg_deploy.errors import RefusedInput, counted
from vgg_deploy.spec import Preprocessing

if TYPE_CHECKING:
    import torch

Weights = NDArray[np.float32]
_MOST_WEIGHTS = 1 << 26  # of one axis: 0.5 GB while they are made
_MOST_KEPT = 1 << 22  # 16 MB
_SHAPE_REMEDY = "give uint8 images of shape [N, H, W, C], C being the network's channels"


def exact_weights(
    n_in: int, n_out: int, start: int = 0, count: int | None = None
) -> NDArray[np.float64]:
    """Weights of an antialiased bilinear resize of one axis: float64 ``[n_out, n_in]``.

    Pixel centres lie at one half. Downscaling widens the triangle by the scale; upscaling keeps
    its width of two pixels, which is plain bilinear. Every row sums to one. With ``start`` and
    ``count`` only these rows of the output: what a crop leaves.
    """
    return triangle_weights(n_in, n_out, start, count, reach=max(1.0, n_in / max(1, n_out)))


def triangle_weights(
    n_in: int, n_out: int, start: int = 0, count: int | None = None, *, reach: float = 1.0
) -> NDArray[np.float64]:
    """Rows of triangles that fall to zero ``reach`` pixels from their centre; sums are one."""
    if n_in < 1 or n_out < 1:
        raise RefusedInput(
            f"cannot resize {n_in} pixels to {n_out}", "use sides of 1 pixel or more"
        )
    row = np.arange(start, n_out if count is None else start + count, dtype=np.float64)
    centre = (row[:, None] + 0.5) * (n_in / n_out)
    pixel = np.arange(n_in, dtype=np.float64)[None, :] + 0.5
    weights: NDArray[np.float64] = pixel - centre
    np.abs(weights, out=weights)  # in place: of a long strip they are hundreds of megabytes
    weights /= reach
    np.subtract(1.0, weights, out=weights)
    np.maximum(weights, 0.0, out=weights)
    total: NDArray[np.float64] = weights.sum(axis=1, keepdims=True)
    weights /= total
    return weights


def resize_weights(n_in: int, n_out: int, start: int = 0, count: int | None = None) -> Weights:
    """``exact_weights`` rounded to float32; read-only, because they may be shared."""
    rounded = _kept_weights if n_in * (count or n_out) <= _MOST_KEPT else _rounded_weights
    return rounded(n_in, n_out, start, count)


def _rounded_weights(n_in: int, n_out: int, start: int, count: int | None) -> Weights:
    result = exact_weights(n_in, n_out, start, count).astype(np.float32)
    result.flags.writeable = False
    return result


_kept_weights = lru_cache(maxsize=32)(_rounded_weights)


class Filter(Protocol):
    """Weights ``[count, n_in]`` of the rows from ``start`` of a resize to ``n_out``."""

    def __call__(self, n_in: int, n_out: int, start: int, count: int, /) -> NDArray[Any]:
        """See ``exact_weights``."""
        ...


def axis_weights(
    height: int, width: int, p: Preprocessing, weights: Filter = resize_weights
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Resize and crop of both axes: ``[size, height]`` and ``[size, width]``.

    A centre crop is a choice of rows, so only the rows that survive it are computed.
    """
    if p.resize is None:
        return weights(height, p.size, 0, p.size), weights(width, p.size, 0, p.size)
    short = min(height, width)
    both = []
    for side in (height, width):
        resized = resized_length(side, short, p.resize)
        both.append(weights(side, resized, corner(resized, p.size), p.size))
    return both[0], both[1]


def preprocess_exact(images: NDArray[np.uint8], p: Preprocessing) -> NDArray[np.float64]:
    """``preprocess`` in float64 throughout, for references."""
    return normalized(resized_exact(images, p), p)


def resized_exact(
    images: NDArray[np.uint8], p: Preprocessing, weights: Filter = exact_weights
) -> NDArray[np.float64]:
    """Resized and cropped pixels, 0 to 255: float64 ``[N, C, size, size]``."""
    _check(str(images.dtype), images.shape, p)
    rows, columns = axis_weights(images.shape[1], images.shape[2], p, weights)
    x = images.transpose(0, 3, 1, 2).astype(np.float64)
    result: NDArray[np.float64] = rows @ x @ columns.T
    return result


def normalized(pixels: NDArray[np.float64], p: Preprocessing) -> NDArray[np.float64]:
    """0 to 255 scaled to the value range, minus the mean, over the standard deviation."""
    low, high = p.value_range
    mean, std = (np.array(v, np.float64)[:, None, None] for v in (p.mean, p.std))
    result: NDArray[np.float64] = (pixels * ((high - low) / 255) + low - mean) / std
    return result


def preprocess(images: NDArray[np.uint8], p: Preprocessing) -> NDArray[np.float32]:
    """uint8 ``[N, H, W, C]`` to the network's float32 ``[N, C, size, size]``, without torch.

    Raises ``RefusedInput`` for another type, shape or number of channels.
    """
    _check(str(images.dtype), images.shape, p)
    rows, columns = axis_weights(images.shape[1], images.shape[2], p)
    x = images.transpose(0, 3, 1, 2).astype(np.float32)
    x = np.matmul(np.matmul(rows, x), columns.T)
    scale, offset = affine(p)
    result: NDArray[np.float32] = x * scale[:, None, None] + offset[:, None, None]
    return result


def preprocess_torch(images: torch.Tensor, p: Preprocessing) -> torch.Tensor:
    """``preprocess`` for a uint8 tensor ``[N, H, W, C]``, computed on its device."""
    _check(str(images.dtype).removeprefix("torch."), tuple(images.shape), p)
    rows, columns, scale, offset = _constants(
        images.shape[1], images.shape[2], p, str(images.device)
    )
    x = images.permute(0, 3, 1, 2).float()
    return (rows @ x @ columns).mul_(scale).add_(offset)


def affine(p: Preprocessing) -> tuple[Weights, Weights]:
    """0..255 to the value range, then normalised, as one scale and offset per channel."""
    low, high = p.value_range
    mean, std = np.array(p.mean, np.float64), np.array(p.std, np.float64)
    scale, offset = (high - low) / 255.0 / std, (low - mean) / std
    return scale.astype(np.float32), offset.astype(np.float32)


@lru_cache(maxsize=16)
def _constants(
    height: int, width: int, p: Preprocessing, device: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Row weights, transposed column weights, scale and offset on a device."""
    import torch

    rows, columns = axis_weights(height, width, p)
    scale, offset = (value[:, None, None] for value in affine(p))
    with torch.inference_mode(False):  # they are shared: whoever comes first must not mark them
        return (
            torch.tensor(rows, device=device),
            torch.tensor(columns.T.copy(), device=device),
            torch.tensor(scale, device=device),
            torch.tensor(offset, device=device),
        )


def _check(dtype: str, shape: tuple[int, ...], p: Preprocessing) -> None:
    if dtype != "uint8" or len(shape) != 4:
        raise RefusedInput(f"images of type {dtype} and shape {list(shape)}", _SHAPE_REMEDY)
    if shape[3] != p.channels:
        raise RefusedInput(
            f"images with {counted(shape[3], 'channel')} for a network that takes {p.channels}",
            _SHAPE_REMEDY,
        )
    if 0 in shape:
        raise RefusedInput(f"images of shape {list(shape)} hold no pixels", _SHAPE_REMEDY)
    require_sides(shape[1], shape[2], p)


def require_sides(height: int, width: int, p: Preprocessing) -> None:
    """Refuse an image so long that the weights of its resize would fill the memory."""
    longest = _MOST_WEIGHTS // p.size
    if max(height, width) > longest:
        raise RefusedInput(
            f"an image of {width}×{height} pixels is longer than the {longest:,} that can be "
            f"resized to {p.size}",
            "cut it into pieces or scale it down first",
        )
