from __future__ import annotations

from pathlib import Path

import pytest

from scripts import bench_training
from tests.train.conftest import cut
from vgg_deploy import jsonio
from vgg_deploy.model.summary import summarise
from vgg_deploy.spec import ModelSpec


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")  # the book's DataLoader
def test_both_loops_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_training, "GEMM_SIDES", (64,))
    spec = ModelSpec.named("1x4-1x8", size=32, channels=1, classes=10, fc_width=16)
    result = bench_training.measure(spec, cut(64, 10), batch=8, steps=2, blocks=2)
    assert len(result.ratios) == len(result.gemm_bf16_gflops) == 2
    for ratio, ours, book in zip(
        result.ratios, result.ours_examples_per_second, result.book_examples_per_second, strict=True
    ):
        assert ratio == pytest.approx(ours / book)
        assert book > 0
    assert min(result.ratios) <= result.ratio <= max(result.ratios)
    assert result.flops_per_image == 6 * summarise(spec).cost.macs
    jsonio.save(tmp_path / "x.json", result)
    assert jsonio.load(bench_training.TrainingSpeed, tmp_path / "x.json") == result


def test_the_books_images_are_pils() -> None:
    image, label = bench_training.BookImages(cut(3, 3).train, 56)[2]
    assert tuple(image.shape) == (1, 56, 56)
    assert 0 <= float(image.min()) < float(image.max()) <= 1
    assert label == int(cut(3, 3).train.labels[2])
