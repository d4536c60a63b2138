"""How sessions are run: what each call gets, and that nothing is left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vgg_deploy.artifact import Artifact, Target, TensorSpec
from vgg_deploy.backends.base import Array
from vgg_deploy.data.preprocess import preprocess
from vgg_deploy.errors import RefusedInput
from vgg_deploy.pipeline.locate import _images
from vgg_deploy.results import Comparison, Subject
from vgg_deploy.spec import Preprocessing
from vgg_deploy.verify.compare import errors
from vgg_deploy.verify.inputs import Inputs, make_inputs
from vgg_deploy.verify.runs import (
    PROBES,
    accuracy_batch,
    batch_sizes,
    first_outputs,
    images_to_run,
    run_calls,
    schedule,
)
from vgg_deploy.verify.tolerance import TOLERANCES
from vgg_deploy.verify.verdict import judge_calls

GREY = Preprocessing(size=8, channels=1, mean=(0.3,), std=(0.35,))
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 1)).astype(np.uint8)
ARTIFACT = Artifact(
    path=PurePosixPath("x.onnx"),
    format="onnx",
    precision="fp32",
    input=TensorSpec(name="input", dtype="float32", shape=("batch", 1, 8, 8), layout="NCHW"),
    output=TensorSpec(name="logits", dtype="float32", shape=("batch", 3), layout="NC"),
    target=None,
    sha256="0" * 64,
    size_bytes=1,
    parent=None,
    made_by={},
)
PIXELS = TensorSpec(
    name="image", dtype="uint8", shape=("batch", "height", "width", 1), layout="NHWC"
)


def inputs(count: int = 10) -> Inputs:
    return make_inputs(IMAGES, "test", GREY, count=count, seed=0)


@dataclass
class Seen:
    """A session that keeps what it got."""

    batches: list[Array]

    def __call__(self, batch: Array, /) -> Array:
        self.batches.append(batch)
        return np.stack([image.reshape(-1)[:3].astype(np.float32) for image in batch])

    def bind(self, batch: Array, /) -> None:
        raise NotImplementedError

    def sync(self) -> None:
        raise NotImplementedError


@given(
    st.integers(8, 60),
    st.lists(st.sampled_from([1, 2, 3, 5, 8, 64]), min_size=1, max_size=3, unique=True),
    st.booleans(),
)
@example(count=8, sizes=[1, 8, 64], full=False)
def test_every_image_runs_and_every_size_gets_two_different_calls(
    count: int, sizes: list[int], full: bool
) -> None:
    calls = list(schedule([(0, count)], sizes, full=full))
    lengths = {len(call) for call in calls}
    assert lengths >= set(sizes)
    if full:
        assert lengths == set(sizes)
    assert set(np.concatenate(calls)) == set(range(count))
    for size in sizes:
        own = [tuple(call) for call in calls if len(call) == size]
        assert len(own) >= 2
        assert len(set(own)) >= 2


def test_images_stand_in_other_positions_in_the_probes() -> None:
    calls = list(schedule([(0, 14)], (1, 2, 8)))
    first = {int(i): pos for call in calls[:2] for pos, i in enumerate(call)}
    moved = [
        int(i)
        for call in calls
        if len(call) == 2
        for pos, i in enumerate(call)
        if first[int(i)] != pos
    ]
    assert moved


def test_outputs_are_put_back_to_their_images() -> None:
    given_inputs, session = inputs(), Seen([])
    calls = run_calls(session, given_inputs, ARTIFACT, (1, 8))  # type: ignore[arg-type]
    count = len(given_inputs.batch)
    outputs = first_outputs(calls, count)
    want = given_inputs.batch.reshape(count, -1)[:, :3]
    np.testing.assert_array_equal(outputs, want)
    assert sum(len(b) for b in session.batches) == images_to_run(given_inputs, ARTIFACT, (1, 8))


def test_pixels_go_in_batches_of_one_size() -> None:
    session = Seen([])
    run_calls(session, inputs(), replace(ARTIFACT, input=PIXELS), (1, 4))  # type: ignore[arg-type]
    assert {batch.dtype for batch in session.batches} == {np.dtype(np.uint8)}
    sides = {batch.shape[1:] for batch in session.batches}
    assert sides == {group.shape[1:] for group in inputs().pixels}
    assert {(6, 6, 1), (8, 8, 1)} < sides


def test_a_file_for_one_size_of_image_gets_real_ones_that_the_host_resized() -> None:
    only_8 = replace(ARTIFACT, input=replace(PIXELS, shape=("batch", 8, 8, 1)))
    with pytest.raises(RefusedInput, match="8×8 pixels only, and 0 of the real ones"):
        run_calls(Seen([]), inputs(), only_8, (2,))  # type: ignore[arg-type]
    given = make_inputs(IMAGES, "test", GREY, count=10, seed=0, resized=True)
    outputs = first_outputs(run_calls(Seen([]), given, only_8, (2,)), len(given.batch))  # type: ignore[arg-type]
    assert np.isnan(outputs[:10]).all(), "those are 6×6"
    assert np.isfinite(outputs[10:16]).all(), "noise and edges have the network's size"
    assert np.isfinite(outputs[19:]).all()
    assert given.names[19:] == tuple(f"{name}, resized" for name in given.names[:10])
    assert given.counts["resized"] == 10
    np.testing.assert_allclose(given.batch[19:], given.batch[:10], atol=0.6 / 255 / 0.35)
    nothing = replace(PIXELS, shape=("batch", 9, 9, 1))
    with pytest.raises(RefusedInput, match="9×9 pixels only"):
        run_calls(Seen([]), given, replace(ARTIFACT, input=nothing), (2,))  # type: ignore[arg-type]


def test_a_file_that_does_not_crop_is_held_against_what_was_not_cropped() -> None:
    """Images as large as the network are cropped by the card, but not by such a file."""
    card = replace(GREY, size=6, resize=8)
    given = make_inputs(IMAGES, "test", card, count=10, seed=0, resized=True)
    spec = replace(PIXELS, shape=("batch", 6, 6, 1))
    assert given.parts(spec) == [(19, 29), (29, 35)]
    whole = preprocess(given.pixels[-2], replace(card, resize=None))
    assert np.abs(given.batch[19:29] - whole).max() < 1e-6


@pytest.mark.parametrize(("sizes", "full"), [((1,), True), ((1,), False), ((8,), False)])
def test_with_one_batch_size_some_images_run_twice(sizes: tuple[int, ...], full: bool) -> None:
    calls = list(schedule([(0, 41)], sizes, full=full))
    counted = np.bincount(np.concatenate(calls))
    assert (counted > 1).sum() >= PROBES
    assert counted.all()


@pytest.mark.parametrize("sizes", [(1,), (8,), (1, 2, 8)])
def test_what_depends_on_the_call_shows_at_any_batch_size(sizes: tuple[int, ...]) -> None:
    """Planted: every other call is halved, in a precision that is not judged by closeness."""
    given, weights = inputs(), np.random.default_rng(0).normal(size=(64, 3))

    class Halved(Seen):
        def __call__(self, batch: Array, /) -> Array:
            self.batches.append(batch)
            logits = batch.reshape(len(batch), -1) @ weights
            return (logits * (0.5 if len(self.batches) % 2 else 1)).astype(np.float32)

    exact = given.batch.reshape(len(given.batch), -1).astype(np.float64) @ weights
    calls = run_calls(Halved([]), given, ARTIFACT, sizes)  # type: ignore[arg-type]
    found = judge_calls(
        calls, exact, errors(exact.astype(np.float32), exact), given.names, TOLERANCES["int8"]
    )
    assert found.verdict == "different"
    assert "batch_spread" in found.reason


def test_a_file_for_one_batch_size_is_run_at_that_one() -> None:
    spec = replace(ARTIFACT.input, shape=(4, 1, 8, 8))
    fixed = replace(ARTIFACT, input=spec)
    assert batch_sizes(fixed, (1, 2, 8)) == (4,)
    assert accuracy_batch(fixed) == 4
    assert batch_sizes(ARTIFACT, (1, 2, 8)) == (1, 2, 8)
    assert accuracy_batch(ARTIFACT) == 100


def test_an_engine_is_run_at_the_ends_of_its_profiles() -> None:
    target = Target(
        flavour="tensorrt", version="10.0", compute_capability="8.9", batches=((2, 8, 64),)
    )
    engine = replace(ARTIFACT, format="engine", target=target)
    assert batch_sizes(engine, (1, 2, 8, 128)) == (2, 8, 64)
    assert accuracy_batch(engine) == 64


@pytest.mark.parametrize(
    ("sizes", "batch"), [((1, 8, 64, 256), 64), ((1, 100, 256), 100), ((128, 256), 128)]
)
def test_many_images_run_at_a_size_that_a_profile_takes(sizes: tuple[int, ...], batch: int) -> None:
    """An engine that is tuned for single sizes takes nothing between them."""
    target = Target(
        flavour="tensorrt",
        version="10.0",
        compute_capability="9.0",
        batches=tuple((size, size, size) for size in sizes),
    )
    assert accuracy_batch(replace(ARTIFACT, format="engine", target=target)) == batch


@pytest.mark.parametrize(
    ("images", "count", "said"),
    [
        (IMAGES, 7, "too few"),
        (np.repeat(IMAGES[:1], 20, axis=0), 10, "all the same"),
        (np.zeros_like(IMAGES), 10, "all the same"),
    ],
)
def test_images_that_prove_nothing_are_refused(images: Array, count: int, said: str) -> None:
    with pytest.raises(RefusedInput, match=said):
        make_inputs(images, "test", GREY, count=count, seed=0)


def test_inputs_lie_in_the_cards_range(monkeypatch: pytest.MonkeyPatch) -> None:
    from vgg_deploy.verify import inputs as module

    low, high = GREY.input_range
    made = inputs().batch
    assert made.min() == pytest.approx(low, abs=1e-5)
    assert made.max() == pytest.approx(high, abs=1e-5)
    monkeypatch.setattr(module, "preprocess", lambda images, p: 255 * preprocess(images, p))
    with pytest.raises(RefusedInput, match="card allows"):
        inputs()


def test_where_no_image_is_the_worst_locate_begins_with_one_that_the_file_takes() -> None:
    """A file for pixels of one size takes the resized images only, which come last."""
    found = make_inputs(IMAGES, "test", GREY, count=10, seed=0, resized=True)
    fixed = replace(ARTIFACT, input=replace(PIXELS, shape=("batch", 8, 8, 1)))
    subject = Subject(artifact="x.onnx", sha256="0" * 64, size_bytes=1, format="embedded",
                      precision="fp32", backend="a", device="cpu")  # fmt: skip
    row = Comparison(subject=subject, verdict="failed", reason="a drop of accuracy")
    (first, *_), *_ = found.parts(fixed.input)
    assert first > 0
    chosen = _images(row, found, fixed)
    assert chosen[0] == first
    assert found.take(chosen, fixed.input).shape[1:] == (8, 8, 1)
