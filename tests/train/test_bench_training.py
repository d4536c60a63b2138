from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from scripts import bench_training
from scripts.neighbours import Neighbours
from tests.train.conftest import cut
from vgg_deploy import jsonio
from vgg_deploy.compiler import lacking
from vgg_deploy.errors import MeasurementNotValid
from vgg_deploy.libraries import tf32_switches
from vgg_deploy.model.summary import summarise
from vgg_deploy.spec import ModelSpec

CPU = torch.device("cpu")


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")  # the book's DataLoader
def test_both_loops_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_training, "GEMM_SIDES", {"cpu": (64,)})
    spec = ModelSpec.named("1x4-1x8", size=32, channels=1, classes=10, fc_width=16)
    monkeypatch.setattr(bench_training, "MAX_OTHERS", 1.0)
    steps = {"book": 2, "ours": 4}
    result = bench_training.measure(spec, cut(64, 10), batch=8, steps=steps, blocks=2, device=CPU)
    assert result.used_blocks == len(result.blocks) == 2
    ratios = [block.ours / block.book for block in result.blocks]
    assert result.ratio_range == (min(ratios), max(ratios))
    assert min(ratios) <= result.ratio <= max(ratios)
    assert min(block.gemm_fp32 for block in result.blocks) > 0
    assert result.flops_per_image == 6 * summarise(spec).cost.macs
    jsonio.save(tmp_path / "x.json", result)
    assert jsonio.load(bench_training.TrainingSpeed, tmp_path / "x.json") == result


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_the_compiled_loop_beside_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    if found := lacking():
        pytest.skip(found[0])
    monkeypatch.setattr(bench_training, "GEMM_SIDES", {"cpu": (64,)})
    monkeypatch.setattr(bench_training, "MAX_OTHERS", 1.0)
    steps = {"book": 1, "ours": 2}
    result = bench_training.measure(
        SPEC, cut(64, 10), batch=8, steps=steps, blocks=2, device=CPU, compiled=True
    )
    ratios = [(block.compiled or 0) / block.ours for block in result.blocks]
    assert result.compiled_range == (min(ratios), max(ratios))
    assert 0 < min(ratios) <= (result.compiled_ratio or 0) <= max(ratios)


def test_the_books_images_are_pils() -> None:
    image, label = bench_training.BookImages(cut(3, 3).train, 56)[2]
    assert tuple(image.shape) == (1, 56, 56)
    assert 0 <= float(image.min()) < float(image.max()) <= 1
    assert label == int(cut(3, 3).train.labels[2])


@pytest.mark.parametrize("images", [16, 10])  # 10: batches of 8 would end with one of 2
def test_no_epoch_of_the_book_ends_within_a_block(
    images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next DataLoader would start four processes between two timed steps."""
    made, seen = [], []

    def counted(*args: Any, **kinds: Any) -> Any:
        made.append(args)
        return DataLoader(*args, **kinds)

    def counting(batch: list[torch.Tensor]) -> int:
        seen.append(len(batch[1]))
        return step(batch)

    monkeypatch.setattr(bench_training, "BOOK_WORKERS", 0)
    monkeypatch.setattr(bench_training, "DataLoader", counted)
    loop = bench_training.BookLoop(SPEC, cut(images, 4), 8, CPU)
    step = loop._step
    monkeypatch.setattr(loop, "_step", counting)
    assert loop.block(9) > 0
    assert len(made) == 1
    assert seen == [8] * (bench_training.WARM_UP + 9)


@pytest.mark.parametrize(
    ("device", "capability", "told"),
    [("cuda", (9, 0), ("convolutions",)), ("cuda", (7, 5), ()), ("cpu", (9, 0), ())],
)
def test_the_books_tf32_is_told(
    device: str, capability: tuple[int, int], told: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    # torch's default
    with tf32_switches(), torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
        assert bench_training.book_tf32(torch.device(device)) == told


def block(others: float | None, ours: float = 30.0) -> bench_training.Block:
    return bench_training.Block(book=10, ours=ours, gemm_fp32=1, gemm_bf16=2, others=others)


def fed(monkeypatch: pytest.MonkeyPatch, *blocks: bench_training.Block) -> None:
    feed = iter(blocks)
    monkeypatch.setattr(bench_training, "run_block", lambda *a: next(feed))


SPEC = ModelSpec.named("1x4", size=8, channels=1, classes=10, fc_width=4)
STEPS = {"book": 1, "ours": 1}


def test_disturbed_blocks_are_kept_but_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    fed(
        monkeypatch,
        block(0.9, ours=1.0),
        block(0.01),
        block(None),
        block(0.5, ours=999.0),
        block(0),
    )
    result = bench_training.measure(SPEC, cut(8, 4), batch=4, steps=STEPS, blocks=3, device=CPU)
    assert (len(result.blocks), result.used_blocks) == (5, 3)
    assert result.ratio == pytest.approx(3)
    assert result.ours_examples_per_second == 30


def test_a_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fed(monkeypatch, *[block(0.5)] * 8)
    with pytest.raises(MeasurementNotValid, match="8 of 8"):
        bench_training.measure(SPEC, cut(8, 4), batch=4, steps=STEPS, blocks=2, device=CPU)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux only")
def test_own_work_is_told_from_a_neighbours() -> None:
    before = Neighbours._ticks()
    start = time.process_time()
    while time.process_time() - start < 0.5:
        pass
    after = Neighbours._ticks()
    assert before is not None
    assert after is not None
    own = (after[1] - before[1]) / os.sysconf("SC_CLK_TCK")
    assert own == pytest.approx(0.5, abs=0.1)  # seconds
    with Neighbours() as visited:
        other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        time.sleep(1.5)
    other.kill()
    other.wait()
    assert visited.share is not None
    assert visited.share > 0.2 / (os.cpu_count() or 1)
