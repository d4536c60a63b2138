"""The image with the largest error, as a person wants to see it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vgg_deploy.results import WorstImage
from vgg_deploy.verify.compare import distances, margins, softmax, typical_norm

_SIDE = 112  # pixels of a thumbnail, at most


def worst_image(
    index: int,
    name: str,
    pixels: NDArray[np.uint8],
    output: NDArray[np.floating],
    reference: NDArray[np.float64],
    labels: Sequence[str],
) -> WorstImage:
    """Describe image ``index``: its logits ``output`` ``[classes]`` beside the reference.

    ``reference`` is ``[N, classes]`` of all images, ``pixels`` ``[H, W, C]`` of this one.
    """
    one, want = output[np.newaxis], reference[index : index + 1]
    finite = bool(np.isfinite(one).all())
    apart = distances(one, want, typical=typical_norm(reference)) if finite else None
    return WorstImage(
        name=name,
        rel_l2=None if apart is None else float(apart[0]),
        expected=_answer(want, labels),
        found="NaN or infinity" if apart is None else _answer(one, labels),
        margin=float(margins(want)[0]),
        png=thumbnail(pixels),
    )


def thumbnail(pixels: NDArray[np.uint8]) -> str:
    """A small PNG of ``[H, W, C]``, base64."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((_SIDE, _SIDE))
    held = io.BytesIO()
    picture.save(held, "PNG")
    return base64.b64encode(held.getvalue()).decode()


def _answer(logits: NDArray[np.floating], labels: Sequence[str]) -> str:
    shares = softmax(logits)[0]
    first = int(shares.argmax())
    return f"{labels[first]} {shares[first]:.2f}"
