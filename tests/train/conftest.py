"""A data set of a few images and a network of a few thousand weights."""

from __future__ import annotations

import pytest

from tests.conftest import make_card
from vgg_deploy.data.dataset import Dataset, Split
from vgg_deploy.data.fashion_mnist import load_dataset
from vgg_deploy.spec import ModelCard


def cut(train: int, test: int) -> Dataset:
    data = load_dataset("sample")
    return Dataset(
        data.name, data.source, data.train.take(train), data.test.take(test), data.labels
    )


@pytest.fixture(scope="session")
def few() -> Dataset:
    """100 training and 40 test images."""
    return cut(100, 40)


@pytest.fixture
def card() -> ModelCard:
    return make_card("1x4-1x8", size=16)


@pytest.fixture
def empty(few: Dataset) -> Dataset:
    nothing = Split(few.train.images[:0], few.train.labels[:0])
    return Dataset("empty", "tests", nothing, few.test, few.labels)
