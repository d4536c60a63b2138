from __future__ import annotations

import io

import pytest
from rich.console import Console

from vgg_deploy.train.options import EpochRow, RunPlan
from vgg_deploy.train.progress import RichListener

PLAN = RunPlan(
    device="cpu",
    precision="bf16",
    epochs=2,
    train_images=60_000,
    test_images=10_000,
    batch=128,
    parameters=1_234_567,
)
ROW = EpochRow(
    epoch=1,
    loss=0.5,
    train_accuracy=0.8,
    test_loss=0.4,
    test_accuracy=0.8765,
    examples_per_second=1234.5,
    seconds=50,
    lr=0.1,
)


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_and_bar(terminal: bool) -> None:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120)
    with RichListener(console) as listener:
        listener.on_start(PLAN)
        listener.on_step(60_000, 120_000, 0.321)
        listener.on_epoch(ROW)
        listener.on_step(60_128, 120_000, None)
    shown = text.getvalue()
    assert "1,234,567 parameters" in shown
    assert "epoch 1/2: loss 0.500, train 0.800, test 0.8765, 1,234 examples/s" in shown
    assert ("examples/s  loss 0.321" in shown) is terminal
    assert ("epoch 2/2" in shown) is terminal


def test_it_writes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with RichListener() as listener:
        listener.on_start(PLAN)
    out, err = capsys.readouterr()
    assert out == ""
    assert "training on cpu in bf16" in err
