"""What every candidate is held against: float64, and torch eager at each precision.

Both depend on nothing but the checkpoint, the images and torch, so they are kept beside the
results. What is kept is not trusted blindly: it has a digest, and one image is computed again
each time.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.artifact import Precision
from vgg_deploy.backends import get_backend
from vgg_deploy.backends.reference import eager, reference
from vgg_deploy.bundle import Bundle
from vgg_deploy.environment import versions
from vgg_deploy.errors import BackendNotAvailable, VggDeployError, counted, os_errors
from vgg_deploy.files import atomic, refuse_linked
from vgg_deploy.pipeline.images import Images
from vgg_deploy.pipeline.watch import Watcher
from vgg_deploy.verify.accuracy import BATCH, Answers, answers
from vgg_deploy.verify.compare import Errors, distances, errors
from vgg_deploy.verify.inputs import Inputs, is_ready
from vgg_deploy.verify.tolerance import TOLERANCES, Tolerance

FILE = "results/yardstick.npz"  # relative to the bundle
EXACT = "float64"
_SAME = 1e-12  # float64 on another number of threads
_NOT_ARRAYS = ("key", "digest")  # of what is kept

Arrays = dict[str, NDArray[np.generic]]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Yardstick:
    """Logits ``[N, classes]`` of the verified images, and what torch eager makes of them."""

    reference: Floats
    eager: Mapping[Precision, Errors]
    answers: Answers | None  # of torch eager in fp32 on the whole test split; None: no accuracy
    rounded: Answers | None = None  # the same, of images that the host resized to uint8
    unusable: Mapping[Precision, str] = field(default_factory=dict)  # why there is no eager


def yardstick(
    bundle: Bundle,
    inputs: Inputs,
    images: Images,
    precisions: Iterable[Precision],
    watch: Watcher,
    *,
    accuracy: bool,
    rounded: bool = False,
    keep: bool = True,
) -> Yardstick:
    """Take what is kept, compute what is not, and keep it where that is possible and wanted.

    ``rounded``: answers also for files that take pixels of the network's size, where the images
    have another one.
    """
    if missing := get_backend("torch").probe():
        raise BackendNotAvailable(
            f"the float64 reference needs torch: {missing.reason}", missing.remedy
        )
    wanted = sorted(set(precisions))
    path = bundle.root / FILE
    key = _key(bundle, inputs, images)
    kept = _kept(path, key, bundle, inputs, wanted, watch)
    arrays = _completed(dict(kept), bundle, inputs, wanted, watch)
    plain = _answers(arrays, bundle, images, watch, False) if accuracy else None
    apart = rounded and not is_ready(images.dataset.test.images, bundle.card.preprocessing)
    small = _answers(arrays, bundle, images, watch, True) if accuracy and apart else plain
    if keep and set(arrays) != set(kept):
        try:
            _keep(path, key, arrays)
        except VggDeployError as error:  # it spares time, no more
            watch.say(f"verify: the reference is not kept: {error.cause}")
    exact = arrays[EXACT].astype(np.float64)
    found = {p: _floats(arrays[p]) for p in wanted}
    unusable = {p: said for p in wanted if (said := _not_finite(found[p], p, inputs.names))}
    close = {p: errors(found[p], exact) for p in wanted if p not in unusable}
    return Yardstick(exact, close, plain, small, unusable)


def _completed(
    arrays: Arrays, bundle: Bundle, inputs: Inputs, wanted: Iterable[Precision], watch: Watcher
) -> Arrays:
    checkpoint, count = bundle.path(bundle.checkpoint), len(inputs.batch)
    if EXACT not in arrays:
        watch.begin("float64 reference", count, "images")
        arrays[EXACT] = reference(checkpoint, inputs.batch, on_batch=watch.advance)
    for precision in wanted:
        if precision not in arrays:
            watch.begin(f"torch eager in {precision}", count, "images")
            found = eager(checkpoint, inputs.batch, precision, on_batch=watch.advance)
            arrays[precision] = found
    return arrays


def _not_finite(found: Floats, precision: Precision, names: Sequence[str]) -> str:
    """Why torch eager's logits ``[N, classes]`` are nothing to be held against; empty if fine."""
    bad = ~np.isfinite(found).all(axis=1)
    if not bad.any():
        return ""
    return (
        f"torch eager itself gives NaN or infinity in {precision} for "
        f"{counted(int(bad.sum()), 'image')}, first for {names[int(bad.argmax())]}: "
        "nothing to be held against"
    )


def _answers(
    arrays: Arrays, bundle: Bundle, images: Images, watch: Watcher, rounded: bool
) -> Answers:
    """What torch eager answers, added to the arrays where it is not among them."""
    first, in_top = ("first_rounded", "in_top_rounded") if rounded else ("first", "in_top")
    if first not in arrays:
        test = images.dataset.test
        watch.begin("accuracy of torch eager", len(images.tested), "images")
        with get_backend("torch").open(bundle.checkpoint, bundle.root) as session:
            found = answers(
                session,
                test.images,
                test.labels,
                bundle.card.preprocessing,
                bundle.checkpoint.input,
                chosen=images.tested,
                on_batch=watch.advance,
                rounded=rounded,
            )
        arrays[first], arrays[in_top] = found.first, found.in_top
    return Answers(arrays[first].astype(np.int64), arrays[in_top].astype(np.bool_))


def _key(bundle: Bundle, inputs: Inputs, images: Images) -> str:
    """Digest of all that the arrays depend on."""
    test, places, pixels = images.dataset.test, images.tested, hashlib.sha256()
    for start in range(0, len(places), BATCH):  # a copy of all of them may not fit into memory
        part = test.images[places[start : start + BATCH]]
        pixels.update(np.ascontiguousarray(part).data)
    pixels.update(images.tested_labels.data)
    parts = {
        "checkpoint": bundle.checkpoint.sha256,
        "inputs": inputs.digest,
        "test": pixels.hexdigest(),
        "versions": versions("vgg-deploy", "torch", "numpy"),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _kept(
    path: Path,
    key: str,
    bundle: Bundle,
    inputs: Inputs,
    wanted: Iterable[Precision],
    watch: Watcher,
) -> Arrays:
    """The arrays of an earlier run with the same key; none, and a remark, if they were edited."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return {}
            arrays = {name: stored[name] for name in stored.files if name not in _NOT_ARRAYS}
            whole = EXACT in arrays and str(stored["digest"]) == _digest(key, arrays)
    except FileNotFoundError:
        return {}
    except Exception:  # zipfile, zlib and numpy raise what they come to: any type, per flipped bit
        whole = False
    if whole and _agrees(arrays, int(key[:8], 16) % len(inputs.batch), bundle, inputs, wanted):
        return arrays
    watch.say(f"verify: {path} was edited or damaged, it is made again")
    return {}


def _agrees(
    arrays: Arrays, at: int, bundle: Bundle, inputs: Inputs, wanted: Iterable[Precision]
) -> bool:
    """Whether image ``at`` gives what is kept, in float64 and in the precisions wanted."""
    checkpoint, one = bundle.path(bundle.checkpoint), inputs.batch[at : at + 1]
    exact = _floats(arrays[EXACT])[at]
    if not np.allclose(reference(checkpoint, one)[0], exact, rtol=_SAME, atol=_SAME):
        return False
    return all(
        _near(_floats(eager(checkpoint, one, p)), _floats(arrays[p])[at : at + 1], TOLERANCES[p])
        for p in wanted
        if p in arrays and not TOLERANCES[p].by_accuracy
    )


def _near(again: Floats, kept: Floats, tolerance: Tolerance) -> bool:
    """Whether eager's logits are the same but for rounding: in a batch of one sums differ."""
    if not (np.isfinite(again).all() and np.isfinite(kept).all()):
        return np.array_equal(again, kept, equal_nan=True)
    return float(distances(again, kept).max()) <= tolerance.k * tolerance.rel_l2_floor


def _digest(key: str, arrays: Arrays) -> str:
    """SHA-256 of the key and of all arrays."""
    found = hashlib.sha256(key.encode())
    for name, array in sorted(arrays.items()):
        found.update(f"{name} {array.dtype.str} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _keep(path: Path, key: str, arrays: Arrays) -> None:
    refuse_linked(path.parent)
    held = io.BytesIO()
    marks = {"key": np.array(key), "digest": np.array(_digest(key, arrays))}
    np.savez_compressed(held, **marks, **arrays)  # type: ignore[arg-type]
    with atomic(path) as partial, os_errors(f"write {path}"):
        partial.write_bytes(held.getvalue())


def _floats(array: NDArray[np.generic]) -> Floats:
    return array.astype(np.float64)
