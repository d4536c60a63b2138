"""Top-1 accuracy of a session on labelled images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.backends.base import Session
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.spec import Preprocessing

BATCH = 100  # divides the 10,000 and 1,000 test images, so that one shape serves all


def count_correct(
    session: Session,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    preprocessing: Preprocessing,
    on_batch: Callable[[int], None] = lambda _: None,
) -> int:
    """Images ``[N, H, W, C]`` whose first class is their label; NaN never counts as a hit."""
    correct = 0
    for start in range(0, len(images), BATCH):
        chunk = preprocess(images[start : start + BATCH], preprocessing)
        logits = session(chunk)
        finite = np.isfinite(logits).all(axis=1)
        hits = (logits.argmax(axis=1) == labels[start : start + BATCH]) & finite
        correct += int(hits.sum())
        on_batch(len(chunk))
    return correct
