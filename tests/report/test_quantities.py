from __future__ import annotations

import math

import pytest

from vgg_deploy.errors import counted
from vgg_deploy.report import quantities as q


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.123e-7, "3.12×10⁻⁷"),
        (0.041249, "0.0412"),
        (0.9996, "1.00"),
        (9.996, "10.0"),
        (1234.5, "1,230"),
        (99_950.0, "1.00×10⁵"),
        (-2.5e9, "-2.50×10⁹"),
        (math.nan, "not finite"),
        (math.inf, "not finite"),
    ],
)
def test_significant_digits(value: float, text: str) -> None:
    assert q.significant(value) == text


def test_a_column_has_one_number_of_decimals() -> None:
    assert q.fixed_all([201.4, 4.051, None]) == ["201.40", "4.05", "–"]
    assert q.fixed_all([0.0, 0.0]) == ["0", "0"]


def test_a_column_of_very_unlike_numbers_keeps_significant_digits() -> None:
    assert q.fixed_all([0.0235, 128.007]) == ["0.0235", "128"]


@pytest.mark.parametrize(
    ("share", "text"), [(1, "100.0 %"), (0.99999, "99.9 %"), (0, "0.0 %"), (None, "–")]
)
def test_less_than_all_is_never_called_all(share: float | None, text: str) -> None:
    assert q.percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (25e-6, "25.0 µs"),
        (0.0412, "41.2 ms"),
        (1.4, "1.40 s"),
        (75, "1 min 15 s"),
        (None, "–"),
    ],
)
def test_durations_choose_their_unit(seconds: float | None, text: str) -> None:
    assert q.duration(seconds) == text


def test_sizes_are_decimal() -> None:
    assert q.size(553_430_232) == "553 MB"
    assert q.size(17) == "17 B"
    assert q.size(None) == "–"


def test_counts_agree_with_their_noun() -> None:
    assert counted(1, "file") == "1 file"
    assert counted(1200, "image") == "1,200 images"
