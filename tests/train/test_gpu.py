"""Training on a real GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.conftest import cut
from tests.train.test_loop import quick
from tests.train.test_restart import MUST, final, stop_after
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.model.checkpoint import load_state
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.hardware import tuned
from vgg_deploy.train.loop import train
from vgg_deploy.train.make import make_trainer
from vgg_deploy.train.options import TrainOptions

pytestmark = pytest.mark.gpu
DEVICE = "cuda"


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # a prototype, it says
@pytest.mark.parametrize("compiled", [False, True])
def test_no_step_waits_for_the_gpu(card: ModelCard, compiled: bool) -> None:
    """The host must run ahead, or the GPU idles between two kernels."""
    device = torch.device(DEVICE)
    options = TrainOptions(batch=8, device=DEVICE, ema=0.9, compile=compiled)
    trainer = make_trainer(card, options, device)
    images = torch.from_numpy(cut(64, 8).train.images).to(device)
    labels = torch.from_numpy(cut(64, 8).train.labels).to(device)
    with tuned(device):
        for _ in range(2):  # what is made once may wait
            trainer.step(images[:8], labels[:8], 8)
            trainer.average(1)
        try:
            torch.cuda.set_sync_debug_mode("error")
            for step in range(2, 5):
                trainer.set_rate(0.5)
                trainer.step(images[:8], labels[:8], 8)
                trainer.average(step)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("more", [{}, {"accumulate": 2}, {"ema": 0.9}])
def test_a_compiled_run_trains_as_the_network_as_it_is(
    card: ModelCard, few: Dataset, tmp_path: Path, more: dict[str, Any]
) -> None:
    """Replayed as CUDA graphs where that is possible, with a last batch that is a shape of its own.

    Without dropout, whose masks come from other random numbers once compiled.
    """
    steady = replace(card, spec=replace(card.spec, dropout=0.0))
    options = quick(device=DEVICE, recipe="book", precision="fp32", **more)
    plain = train(steady, few, options, tmp_path / "plain")
    made = train(steady, few, replace(options, compile=True), tmp_path / "made")
    assert [row.loss for row in made.rows] == pytest.approx(
        [row.loss for row in plain.rows], rel=1e-3
    )
    one, other = (load_state(tmp_path / name / "last.safetensors") for name in ("plain", "made"))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-2, atol=1e-3)


def test_a_stopped_run_ends_with_the_same_bits(
    card: ModelCard, few: Dataset, tmp_path: Path
) -> None:
    options = {"device": DEVICE, "deterministic": True, "ema": 0.9}
    train(card, few, quick(**options), tmp_path / "whole")
    stop_after(tmp_path / "parts", card, few, 3, **options)
    train(card, few, quick(**options), tmp_path / "parts", control=MUST)
    assert final(tmp_path / "parts") == final(tmp_path / "whole")
