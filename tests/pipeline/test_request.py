"""What cannot be trained is told before a folder of images is looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import photos
from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main
from vgg_deploy.pipeline.request import TrainRequest, planned
from vgg_deploy.train.options import TrainOptions
from vgg_deploy.train.setup import moments


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


@pytest.mark.parametrize(("count", "share"), [(24, 0.0), (None, 0.5), (24, 0.25)])
def test_the_card_knows_the_images_that_are_trained_with(
    tmp_path: Path, count: int | None, share: float
) -> None:
    options = TrainOptions(max_images=count, validation=share)
    data = str(photos(tmp_path / "data", 0))
    plan = planned(TrainRequest(arch="1x4", size=16, data=data, options=options))
    train = plan.dataset.train
    trained = train.where(plan.dataset.trained(count, share))
    assert len(trained) < len(train) - 10
    mean = plan.card.preprocessing.mean
    assert mean == pytest.approx([v / 255 for v in moments(trained.images, 3)[0]], abs=1e-4)
    assert mean != pytest.approx([v / 255 for v in moments(train.images, 3)[0]], abs=2e-4)
    again = planned(TrainRequest(arch="1x4", size=16, data=data, options=options))
    assert again.card == plan.card, "an interrupted run knows itself by it"
