from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from vgg_deploy.data.dataset import Split
from vgg_deploy.data.idx import format_idx, parse_idx, read_content
from vgg_deploy.errors import RefusedInput

VALUES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def test_there_and_back() -> None:
    np.testing.assert_array_equal(parse_idx(format_idx(VALUES), "x"), VALUES)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0",  # float32
        b"\x01\0\x08\x01\0\0\0\x01\0",
        b"\0\0\x08\x00",
        b"\0\0\x08\x02\0\0\0\x01",  # header cut
        format_idx(VALUES)[:-1],
        format_idx(VALUES) + b"\0",
        b"\0\0\x08\x04" + b"\xff" * 16,  # a product beyond 64 bits
    ],
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(RefusedInput, match="some file"):
        parse_idx(content, "some file")


def test_no_more_than_the_limit_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    assert len(read_content(tmp_path / "bomb.gz", 100)) == 101


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match="absent"):
        read_content(tmp_path / "absent", 1)


@pytest.mark.parametrize(
    ("images", "labels"),
    [((2, 3, 3), (2,)), ((2, 3, 3, 1), (3,)), ((2, 3, 3, 1), (2, 1))],
)
def test_split_checks_its_shapes(images: tuple[int, ...], labels: tuple[int, ...]) -> None:
    with pytest.raises(RefusedInput):
        Split(np.zeros(images, np.uint8), np.zeros(labels, np.int64))
