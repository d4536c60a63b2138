"""Ranges of an eight-bit model: candidates from calibration images, compared on others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.errors import RefusedInput
from vgg_deploy.precision.calibration import CalibrationSet, Done, batches, entropy_threshold
from vgg_deploy.precision.graph import finish, layer_of
from vgg_deploy.precision.observe import Histogram, observe, runner
from vgg_deploy.precision.qdq import QuantizedPrecision, insert_pairs, quantized_tensors
from vgg_deploy.spec import Preprocessing

if TYPE_CHECKING:
    import onnx

Ranges = Mapping[str, float]
# how often the images of one draw are run: measured, and held out in fp32 and by both candidates
PASSES: Mapping[QuantizedPrecision, int] = {"int8": 4, "fp8": 1}


def quantize(
    model: onnx.ModelProto,
    precision: QuantizedPrecision,
    images: CalibrationSet,
    preprocessing: Preprocessing,
    done: Done = lambda _: None,
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """An eight-bit form of an fp32 model, and what was compared to get it.

    int8: the largest magnitude and the entropy threshold are compared by how far the softmax
    outputs move on the held-out images; the nearer one is kept. fp8 spans 2^17 and needs no
    clipping: its range is the largest magnitude. ``done`` is told of images; see ``PASSES``.
    """
    names = quantized_tensors(model)
    seen = observe(model, names, batches(images.measured, preprocessing, done))
    if endless := [name for name in names if not np.isfinite(seen[name].largest)]:
        raise RefusedInput(
            f"{layer_of(model, endless[0])} gives values that are not finite in fp32 already",
            f"{precision} cannot hold them either: look at the fp32 file with vgg-deploy verify",
        )
    candidates = _candidates(precision, seen)
    if len(candidates) == 1:
        (method, ranges) = next(iter(candidates.items()))
        return with_pairs(model, precision, ranges), {"calibration": method}

    def logits(of: onnx.ModelProto) -> NDArray[np.float64]:
        # preprocessed anew for each model: all images in float32 would be gigabytes
        return _logits(of, batches(images.held_out, preprocessing), done)

    exact = logits(model)
    models = {name: with_pairs(model, precision, r) for name, r in candidates.items()}
    moved = {name: _moved(exact, logits(m)) for name, m in models.items()}
    kept = min(moved, key=lambda name: moved[name])
    compared = ", ".join(f"{name} {value:.2e}" for name, value in sorted(moved.items()))
    return models[kept], {"calibration": kept, "calibration_divergence": compared}


def with_pairs(
    model: onnx.ModelProto, precision: QuantizedPrecision, ranges: Ranges
) -> onnx.ModelProto:
    """A copy of an fp32 model with Q/DQ for these ranges, its dialect already set."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    insert_pairs(made, precision, ranges)
    finish(made, precision, {})
    return made


def _candidates(precision: QuantizedPrecision, seen: Mapping[str, Histogram]) -> dict[str, Ranges]:
    candidates: dict[str, Ranges] = {"max": {name: h.largest for name, h in seen.items()}}
    if precision == "int8":
        candidates["entropy"] = {name: entropy_threshold(h) for name, h in seen.items()}
    return candidates


def _logits(
    model: onnx.ModelProto, inputs: Iterable[NDArray[np.float32]], done: Done
) -> NDArray[np.float64]:
    run, given = runner(model), model.graph.input[0].name
    parts = []
    for batch in inputs:
        parts.append(run(None, {given: batch})[0])
        done(len(batch))
    logits: NDArray[np.float64] = np.concatenate(parts).astype(np.float64)
    return logits


def _moved(exact: NDArray[np.float64], found: NDArray[np.float64]) -> float:
    """Mean divergence of the softmax outputs from the fp32 model's, nats."""
    p, q = _log_softmax(exact), _log_softmax(found)
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis=1)))


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
