from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vgg_deploy.data.dataset import Split, held_out
from vgg_deploy.errors import RefusedInput


def numbered(labels: list[int]) -> Split:
    """Image i has the value i, in two pixels."""
    places = np.arange(len(labels))
    images = np.stack([places // 256, places % 256], axis=1).astype(np.uint8)
    return Split(images.reshape(-1, 1, 2, 1), np.array(labels, np.int64))


def places(split: Split) -> list[int]:
    return [int(image[0, 0, 0]) * 256 + int(image[0, 1, 0]) for image in split.images]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=300), st.sampled_from([10, 25, 50]))
def test_every_image_is_in_one_part(labels: list[int], percent: int) -> None:
    counts = np.bincount(labels)
    if 1 in counts:
        single = [name for name, count in zip("abcd", counts, strict=False) if count == 1]
        with pytest.raises(RefusedInput, match="a single training image") as caught:
            held_out(numbered(labels), percent / 100, "abcd")
        more = " and 1 more" if single[3:] else ""
        assert caught.value.cause.startswith(f"{', '.join(single[:3])}{more} ha")
        return
    split = numbered(labels)
    marked = held_out(split, percent / 100, "abcd")
    left, held = split.where(~marked), split.where(marked)
    assert sorted(places(left) + places(held)) == list(range(len(labels)))
    assert places(left) == sorted(places(left))
    assert places(held) == sorted(places(held))
    for label in np.unique(labels):  # the last of every class
        own = [i for i, other in enumerate(labels) if other == label]
        wanted = max(1, len(own) * percent // 100)
        assert [i for i in places(held) if labels[i] == label] == own[-wanted:]
