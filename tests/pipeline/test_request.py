"""What cannot be trained is told before a folder of images is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import photos
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--size", "0"], 2, "size 0 is out of range"),
        (["--size", "-5"], 2, "size -5 is out of range"),
        (["--size", "16"], 2, "too small for 5 poolings"),
        (["--arch", "vgg17"], 2, "unknown architecture"),
        (["-o", "BUNDLE"], 3, "already is a bundle"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_an_order_or_a_place_that_cannot_be_comes_before_the_images(
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    said: str,
    whole: bool,
) -> None:
    data = tmp_path / "data"
    if whole:
        photos(data, 0)
    else:
        data.mkdir()  # no class: whoever reads it says so
    given = [str(tiny_bundle.root) if word == "BUNDLE" else word for word in words]
    assert main(["train", "--data", str(data), "-o", str(tmp_path / "b"), *given]) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
