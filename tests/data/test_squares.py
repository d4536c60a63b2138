"""A folder's images are squares of what ``predict`` and exported files see of the whole ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from vgg_deploy.data.crop import corner, resized_length
from vgg_deploy.data.preprocess import preprocess, preprocess_torch
from vgg_deploy.data.sources import geometry_of
from vgg_deploy.data.squares import Geometry, squared
from vgg_deploy.spec import Preprocessing

ROUNDINGS = 1.01  # of 255: half for either axis, and what float32 adds
SIDES = st.integers(1, 400)


def noise(*shape: int) -> NDArray[np.uint8]:
    """Neighbouring pixels have nothing in common: half a pixel off is tens of grey levels."""
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def plain(size: int, resize: int | None, channels: int = 1) -> Preprocessing:
    """Leaves pixels on the 0..255 scale."""
    zeros, ones = (0.0,) * channels, (1.0,) * channels
    return Preprocessing(
        size=size, channels=channels, mean=zeros, std=ones, resize=resize, value_range=(0.0, 255.0)
    )


def apart(image: NDArray[np.uint8], p: Preprocessing) -> float:
    """What training sees of a file, against what ``predict`` sees, in grey levels."""
    square = torch.from_numpy(squared(image, geometry_of(p)).copy())[None]
    return float(np.abs(preprocess_torch(square, p).numpy() - preprocess(image[None], p)).max())


@settings(max_examples=150, deadline=None)
@given(height=SIDES, width=SIDES, size=st.integers(1, 48), more=st.integers(0, 40))
@example(height=300, width=411, size=32, more=0)
@example(height=65, width=73, size=64, more=9)
def test_training_and_predicting_see_the_same(
    height: int, width: int, size: int, more: int
) -> None:
    assert apart(noise(height, width, 1), plain(size, size + more)) < ROUNDINGS


@settings(max_examples=40, deadline=None)
@given(height=SIDES, width=SIDES, size=st.integers(1, 48))
def test_and_where_nothing_is_cropped(height: int, width: int, size: int) -> None:
    assert apart(noise(height, width, 1), plain(size, None)) < ROUNDINGS


@pytest.mark.parametrize("size", [224, 63])
@pytest.mark.parametrize(("more", "channels"), [(0, 3), (32, 3), (1, 1), (14, 1), (9, 1)])
def test_sides_around_that_of_the_network(size: int, more: int, channels: int) -> None:
    p = plain(size, size + more, channels)
    near = [size - 1, size, size + 1, size + more, size + more + 1]
    for height, width in zip(near, near[1:] + near[:1], strict=True):
        for long in (width, 2 * width + 1):
            assert apart(noise(height, long, channels), p) < ROUNDINGS, (height, long)


@pytest.mark.parametrize("resize", [24, 29, 31])
@pytest.mark.parametrize("shape", [(1, 900), (1003, 17), (5, 20_000), (31_003, 2), (24, 30_001)])
def test_long_strips(shape: tuple[int, int], resize: int) -> None:
    assert apart(noise(*shape, 1), plain(24, resize)) < ROUNDINGS


@settings(max_examples=80, deadline=None)
@given(
    height=st.integers(1, 120), width=st.integers(1, 120), size=st.integers(1, 60),
    more=st.integers(0, 9),
)  # fmt: skip
def test_the_rounding_is_torchvisions(height: int, width: int, size: int, more: int) -> None:
    from torchvision.transforms.v2 import functional as reference

    short, resize = min(height, width), size + more
    resized = reference.resize(torch.zeros(1, height, width), [resize])
    sides = [resized_length(side, short, resize) for side in (height, width)]
    assert list(resized.shape[1:]) == sides
    numbered = torch.arange(sides[0] * sides[1]).reshape(1, *sides)
    first = int(reference.center_crop(numbered, [size])[0, 0, 0])
    assert divmod(first, sides[1]) == (corner(sides[0], size), corner(sides[1], size))


def whole(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """All of an image through torchvision, by Pillow."""
    from torchvision.transforms.v2 import functional as reference

    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    cut = reference.center_crop(reference.resize(picture, [side]), [side])
    return np.asarray(cut).reshape(side, side, -1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "shape", [(480, 640), (641, 333), (24, 24), (24, 61), (7, 5), (25, 24), (1, 900), (1003, 17)]
)
def test_only_what_the_crop_keeps_is_resized(shape: tuple[int, int], channels: int) -> None:
    image = noise(*shape, channels)
    off = np.abs(
        squared(image, Geometry(side=24, channels=channels)).astype(int) - whole(image, 24)
    )
    assert off.max() <= 1, "more than rounding"
    assert (off == 0).mean() > 0.99


def test_a_strip_is_not_resized_whole() -> None:
    """All of it would be 224 × 672,000,224 pixels."""
    image = np.broadcast_to(np.uint8(77), (1, 3_000_001, 3))
    square = squared(image, Geometry(side=224, channels=3))
    assert square.shape == (224, 224, 3)
    assert (square == 77).all()
