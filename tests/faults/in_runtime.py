"""Faults of a runtime: a real session whose answers, or whose input, go astray on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vgg_deploy.artifact import Artifact, Format, TensorSpec
from vgg_deploy.backends.base import Array, Backend, Device, Missing, Session
from vgg_deploy.data.preprocess import axis_weights, preprocess, resize_weights
from vgg_deploy.spec import Preprocessing

Run = Callable[[Array], Array]
Wrap = Callable[[Run], Run]
Prepare = Callable[[Array, Preprocessing], Array]


@dataclass
class Wrapped:
    """A session that is called through something."""

    inner: Session
    run: Run

    def __call__(self, batch: Array, /) -> Array:
        return self.run(batch)

    def bind(self, batch: Array, /) -> Callable[[], None]:
        return self.inner.bind(batch)

    def sync(self) -> None:
        self.inner.sync()


@dataclass(frozen=True)
class Through:
    """A backend whose sessions are wrapped; everything else is the real one's."""

    inner: Backend
    wrap: Wrap
    formats: frozenset[Format] = field(default=frozenset({"onnx"}))

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def device(self) -> Device:
        return self.inner.device

    def probe(self) -> Missing | None:
        return self.inner.probe()

    @contextmanager
    def open(self, artifact: Artifact, root: Path, /) -> Iterator[Session]:
        with self.inner.open(artifact, root) as session:
            yield Wrapped(session, self.wrap(session))


@dataclass(frozen=True)
class FromPixels:
    """A backend that prepares pixels itself, as an app does, and then runs the real session."""

    inner: Backend
    prepare: Prepare
    card: Preprocessing
    formats: frozenset[Format] = field(default=frozenset({"onnx"}))

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def device(self) -> Device:
        return self.inner.device

    def probe(self) -> Missing | None:
        return self.inner.probe()

    @contextmanager
    def open(self, artifact: Artifact, root: Path, /) -> Iterator[Session]:
        size, channels = self.card.size, self.card.channels
        shape: tuple[int | str, ...] = ("batch", channels, size, size)
        floats = TensorSpec(name="input", dtype="float32", shape=shape, layout="NCHW")
        with self.inner.open(replace(artifact, input=floats), root) as session:
            yield Wrapped(session, lambda pixels: session(self.prepare(pixels, self.card)))


def last_call(run: Run) -> Run:
    kept: list[Array] = []

    def stale(batch: Array) -> Array:
        kept.append(run(batch))
        return kept[-2] if len(kept) > 1 and len(kept[-2]) == len(batch) else kept[-1]

    return stale


def per_shape(run: Run) -> Run:
    kept: dict[tuple[int, ...], Array] = {}
    return lambda batch: kept.setdefault(batch.shape, run(batch))


def one_buffer(run: Run) -> Run:
    buffer = np.zeros((256, 10), np.float32)

    def shared(batch: Array) -> Array:
        buffer[: len(batch)] = run(batch)
        return buffer[: len(batch)]

    return shared


def shifted(run: Run) -> Run:
    return lambda batch: np.roll(run(batch), 1, axis=0) if len(batch) > 1 else run(batch)


def last_of_batch_lost(run: Run) -> Run:
    def lost(batch: Array) -> Array:
        logits = run(batch)
        if len(batch) > 2:
            logits[-1] = logits[-2]
        return logits

    return lost


def unsteady(run: Run) -> Run:
    random = np.random.default_rng(0)

    def noisy(batch: Array) -> Array:
        logits = run(batch)
        wobble = 1 + 1e-3 * random.standard_normal(logits.shape)
        return (logits * wobble).astype(np.float32)

    return noisy


def wrong_at_two(run: Run) -> Run:
    return lambda batch: run(batch) * np.float32(1.001 if len(batch) == 2 else 1)


def first_for_all(run: Run) -> Run:
    return lambda batch: np.repeat(run(batch)[:1], len(batch), axis=0)


def nan_once(run: Run) -> Run:
    calls: list[int] = []

    def once(batch: Array) -> Array:
        logits = run(batch)
        calls.append(0)
        if len(calls) == 3:
            logits[-1, 0] = np.nan
        return logits

    return once


def transposed(run: Run) -> Run:
    return lambda batch: run(batch).T


IN_RUNTIME: Mapping[str, Wrap] = {
    "output cached from the last call": last_call,
    "output cached per shape": per_shape,
    "output buffer handed out twice": one_buffer,
    "answers shifted by one image": shifted,
    "last image of a batch lost": last_of_batch_lost,
    "output changes from call to call": unsteady,
    "kernel of batch 2 wrong": wrong_at_two,
    "first image's answer for the whole batch": first_for_all,
    "NaN in one call": nan_once,
    "outputs in half precision": lambda run: lambda batch: run(batch).astype(np.float16),
    "outputs transposed": transposed,
    "inputs in half precision": lambda run: (
        lambda batch: run(batch.astype(np.float16).astype(np.float32))
    ),
}


def resized(pixels: Array, p: Preprocessing, rows: Array, columns: Array) -> Array:
    """Like the real preprocessing, with other weights."""
    x = pixels.transpose(0, 3, 1, 2).astype(np.float32)
    return normalised(np.matmul(np.matmul(rows, x), columns.T), p)


def normalised(x: Array, p: Preprocessing) -> Array:
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (p.mean, p.std))
    return np.asarray((x / 255 - mean) / std, np.float32)


def plain_bilinear(n_in: int, n_out: int) -> Array:
    """Without antialias: two neighbours, whatever the scale."""
    centre = (np.arange(n_out)[:, None] + 0.5) * n_in / n_out
    weights = np.maximum(0, 1 - np.abs(np.arange(n_in)[None] + 0.5 - centre))
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


def corners_aligned(n_in: int, n_out: int) -> Array:
    at = np.linspace(0, n_in - 1, n_out)[:, None]
    return np.asarray(np.maximum(0, 1 - np.abs(np.arange(n_in)[None] - at)), np.float32)


def nearest(n_in: int, n_out: int) -> Array:
    at = ((np.arange(n_out) + 0.5) * n_in / n_out).astype(int)
    return np.asarray(np.eye(n_in, dtype=np.float32)[at])


def with_weights(weights: Callable[[int, int], Array]) -> Prepare:
    """Shorter side to ``resize`` by these weights, then the right crop."""

    def axis(n_in: int, n_out: int, start: int, count: int) -> Array:
        return weights(n_in, n_out)[start : start + count]

    def prepare(pixels: Array, p: Preprocessing) -> Array:
        rows, columns = axis_weights(pixels.shape[1], pixels.shape[2], p, axis)
        return resized(pixels, p, rows, columns)

    return prepare


def crop_off_by_one(pixels: Array, p: Preprocessing) -> Array:
    def axis(n_in: int, n_out: int, start: int, count: int) -> Array:
        return resize_weights(n_in, n_out)[start - 1 : start - 1 + count]

    rows, columns = axis_weights(pixels.shape[1], pixels.shape[2], p, axis)
    return resized(pixels, p, rows, columns)


def squashed(pixels: Array, p: Preprocessing) -> Array:
    rows, columns = (resize_weights(side, p.size) for side in pixels.shape[1:3])
    return resized(pixels, p, rows, columns)


def rounded_to_pixels(pixels: Array, p: Preprocessing) -> Array:
    """The resized image kept in uint8 on the way."""
    low, high = np.array(p.mean), np.array(p.std)
    x = preprocess(pixels, p) * high[:, None, None] + low[:, None, None]
    return normalised(np.floor(x * 255 + 1e-3), p)


IN_PIXELS: Mapping[str, Prepare] = {
    "resize without antialias": with_weights(plain_bilinear),
    "resize with aligned corners": with_weights(corners_aligned),
    "resize by the nearest pixel": with_weights(nearest),
    "crop off by one pixel": crop_off_by_one,
    "squashed instead of cropped": squashed,
    "resized image rounded to whole grey levels": rounded_to_pixels,
    "pixels as BGR": lambda pixels, p: preprocess(pixels[..., ::-1].copy(), p),
    "pixels mirrored": lambda pixels, p: preprocess(pixels[:, :, ::-1].copy(), p),
    "pixels not normalised": lambda pixels, p: preprocess(
        pixels, replace(p, mean=(0.0,) * 3, std=(1.0,) * 3)
    ),
    "variance taken for std": lambda pixels, p: preprocess(
        pixels, replace(p, std=tuple(s * s for s in p.std))
    ),
}
