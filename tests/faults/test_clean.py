"""A hundred right exports of random networks, and not one false alarm."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.clean import clean_bundle, drawn_card
from vgg_deploy.cli import main

DRAWS = 100


@pytest.mark.parametrize("seed", range(DRAWS))
def test_a_right_export_passes(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, words = clean_bundle(seed, tmp_path / "bundle")
    assert main(words) == 0, capsys.readouterr().out


def test_the_draws_differ() -> None:
    cards = [drawn_card(seed) for seed in range(DRAWS)]
    assert len({repr(card.spec) for card in cards}) > 0.95 * DRAWS
    for what in ("batch_norm", "lrn", "ceil_mode"):
        share = sum(getattr(card.spec, what) for card in cards) / DRAWS
        assert 0.05 < share < 0.6, what
