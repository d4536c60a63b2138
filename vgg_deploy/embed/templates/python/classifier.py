"""Classify images with the ONNX model beside this file: numpy and onnxruntime, nothing else.

    from classifier import classify

    classify(pixels)  # [("sneaker", 0.97), ("sandal", 0.02), ...], best first

The model resizes and normalises by itself: give it the image as it is.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from pixels import to_channels

FOLDER = Path(__file__).resolve().parent
OLDEST_RUNTIME = (1, 15)  # the first that reads opset 18


class Classifier:
    """A loaded model; threads may share one."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Load ``model.onnx`` and ``labels.json`` of a folder."""
        _refuse_old_runtime(ort.__version__)
        self.labels: list[str] = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
        self._session = ort.InferenceSession(
            str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
        )
        self._channels: int = self._session.get_inputs()[0].shape[3]

    def classify(self, image: NDArray[np.uint8], top: int = 5) -> list[tuple[str, float]]:
        """The ``top`` most probable labels of one image with their probabilities, best first.

        ``image`` is uint8 ``[H, W, C]`` or ``[H, W]``: grey, grey + alpha, RGB or RGBA, any size.
        Raises ``ValueError`` for anything else, and for a ``top`` below 1.
        """
        if top < 1:
            raise ValueError(f"top is {top}; give 1 or more")
        probabilities, _ = self.run(to_channels(image, self._channels)[np.newaxis])
        best = np.argsort(-probabilities[0], kind="stable")[:top]
        return [(self.labels[i], float(probabilities[0, i])) for i in best]

    def run(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities and logits ``[N, classes]`` of uint8 ``[N, H, W, C]`` of equal size."""
        probabilities, logits = self._session.run(["probabilities", "logits"], {"image": images})
        return probabilities, logits


def classify(image: NDArray[np.uint8], top: int = 5) -> list[tuple[str, float]]:
    """``Classifier().classify`` on a model that is loaded once, at the first call."""
    return _default().classify(image, top)


@cache
def _default() -> Classifier:
    return Classifier()


def _refuse_old_runtime(version: str) -> None:
    numbers = re.findall(r"\d+", version)[:2]  # of 1.24rc1 too
    if tuple(map(int, numbers)) < OLDEST_RUNTIME:
        oldest = ".".join(map(str, OLDEST_RUNTIME))
        raise RuntimeError(
            f"onnxruntime {version} is too old for this model: use {oldest} or newer"
        )
