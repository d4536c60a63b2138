from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vgg_deploy.data.preprocess import (
    _constants,
    exact_weights,
    preprocess,
    preprocess_torch,
    resize_weights,
)
from vgg_deploy.errors import RefusedInput
from vgg_deploy.spec import Preprocessing

SIDES = st.integers(1, 90)


def grey(size: int, resize: int | None = None) -> Preprocessing:
    """Leaves pixels on the 0..255 scale."""
    return Preprocessing(
        size=size, channels=1, mean=(0.0,), std=(1.0,), resize=resize, value_range=(0.0, 255.0)
    )


def rgb(size: int, resize: int | None = None) -> Preprocessing:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return Preprocessing(size=size, channels=3, mean=mean, std=std, resize=resize)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def interpolated(images: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float64]:
    """torch's, in float64: its float32 kernel is up to 1e-3 away from that by itself."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double()
    y = torch.nn.functional.interpolate(
        x, (height, width), mode="bilinear", antialias=True, align_corners=False
    )
    result: NDArray[np.float64] = y.numpy()
    return result


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (28, 28, 224),
        (28, 28, 64),
        (28, 28, 28),
        (300, 411, 64),
        (97, 31, 50),
        (1, 1, 32),
        (7, 2000, 32),
        (2000, 3, 48),
        (2, 2, 224),
        (1500, 1000, 224),
    ],
)
def test_resize_is_torchs_antialiased_bilinear(height: int, width: int, size: int) -> None:
    images = noise(2, height, width, 1)
    ours = preprocess(images, grey(size))
    assert np.abs(ours - interpolated(images, size, size)).max() < 1e-4


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, size=SIDES, seed=st.integers(0, 99))
def test_any_sides(height: int, width: int, size: int, seed: int) -> None:
    images = noise(1, height, width, 1, seed=seed)
    ours = preprocess(images, grey(size))
    assert np.abs(ours - interpolated(images, size, size)).max() < 1e-4


@settings(max_examples=40, deadline=None)
@given(n_in=st.integers(1, 3000), n_out=st.integers(1, 300))
def test_rows_are_averages(n_in: int, n_out: int) -> None:
    weights = resize_weights(n_in, n_out)
    assert weights.shape == (n_out, n_in)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(40, 40), (333, 500), (500, 333), (30, 1000)])
def test_shorter_side_and_centre_crop_as_torchvision(height: int, width: int) -> None:
    from torchvision.transforms.v2 import functional as reference

    images = noise(2, height, width, 3)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).double()
    x = reference.center_crop(reference.resize(x, [72], antialias=True), [65])
    ours = preprocess(images, rgb(65, resize=72))
    expected = reference.normalize(x / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert ours.shape == (2, 3, 65, 65)
    assert np.abs(ours - expected.numpy()).max() < 1e-5


@pytest.mark.parametrize("resize", [None, 90])
@pytest.mark.parametrize("shape", [(3, 28, 28), (2, 311, 97)])
def test_torch_form_agrees_with_numpy(shape: tuple[int, int, int], resize: int | None) -> None:
    images = noise(*shape, 3)
    ours = preprocess(images, rgb(64, resize))
    other = preprocess_torch(torch.from_numpy(images), rgb(64, resize))
    assert ours.dtype == np.float32
    assert other.dtype == torch.float32
    np.testing.assert_allclose(other.numpy(), ours, atol=1e-5)


def test_range_and_normalisation() -> None:
    p = Preprocessing(size=4, channels=1, mean=(0.5,), std=(0.25,), value_range=(-1.0, 1.0))
    black_and_white = np.stack([np.zeros((2, 2, 1)), np.full((2, 2, 1), 255)]).astype(np.uint8)
    low, high = preprocess(black_and_white, p)
    np.testing.assert_allclose(low, p.input_range[0], atol=1e-6)
    np.testing.assert_allclose(high, p.input_range[1], atol=1e-6)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 8, 8, 1), np.float32),
        np.zeros((8, 8, 1), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((1, 0, 8, 1), np.uint8),
        np.zeros((0, 8, 8, 1), np.uint8),
    ],
)
def test_wrong_images_are_refused(images: NDArray[np.uint8]) -> None:
    with pytest.raises(RefusedInput):
        preprocess(images, grey(8))
    with pytest.raises(RefusedInput):
        preprocess_torch(torch.from_numpy(images), grey(8))


def test_shared_weights_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        resize_weights(5, 6)[0, 0] = 1


def test_a_first_call_in_inference_mode_does_not_spoil_training() -> None:
    images = torch.from_numpy(noise(2, 9, 9, 1))
    with torch.inference_mode():
        preprocess_torch(images, grey(13))
    weight = torch.ones(1, requires_grad=True)
    (preprocess_torch(images, grey(13)) * weight).sum().backward()
    assert weight.grad is not None
    assert not any(t.is_inference() for t in _constants(9, 9, grey(13), "cpu"))


def test_weights_take_the_memory_of_one_array() -> None:
    tracemalloc.start()
    weights = exact_weights(60_000, 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.1 * weights.nbytes


@pytest.mark.parametrize("shape", [(1, 1, 65_537, 1), (1, 65_537, 1, 1)])
@pytest.mark.parametrize("resize", [None, 1024])
def test_a_strip_that_would_fill_the_memory_is_refused(
    shape: tuple[int, ...], resize: int | None
) -> None:
    tracemalloc.start()
    with pytest.raises(RefusedInput, match="longer than the 65,536 that can be resized to 1024"):
        preprocess(np.zeros(shape, np.uint8), grey(1024, resize))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_long_strip_leaves_nothing_behind() -> None:
    strip = noise(1, 1, 70_000, 1)
    assert preprocess(strip, grey(64, 64)).shape == (1, 1, 64, 64)
    tracemalloc.start()
    assert np.ptp(preprocess(strip, grey(64))) > 0
    left = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert left < 1_000_000, "weights that large are not kept"
