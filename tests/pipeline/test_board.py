"""Event files of a run that was killed and gone on with: every figure once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.pipeline.training import OPTIONS, SAMPLE
from vgg_deploy.pipeline.board import EVENTS, FOLDER, figures
from vgg_deploy.pipeline.train import train_bundle
from vgg_deploy.train import run as run_module
from vgg_deploy.train.options import RunControl

LONGER = replace(SAMPLE, options=replace(OPTIONS, epochs=3, validation=0.1))
NAMES = {
    "loss", "train_accuracy", "validation_loss", "validation_accuracy", "test_loss",
    "test_accuracy", "lr", "examples_per_second",
}  # fmt: skip
BOARD = RunControl(tensorboard=True)


def killed_after(epoch: int, root: Path, control: RunControl) -> None:
    """Between the checkpoint of that epoch and what follows from it."""
    whole = run_module.Run._write_epoch

    def cut(run: run_module.Run, *tested: object) -> None:
        if len(run.rows) == epoch:
            raise KeyboardInterrupt
        whole(run, *tested)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module.Run, "_write_epoch", cut)
        with pytest.raises(KeyboardInterrupt):
            train_bundle(root, LONGER, control=control)


@pytest.mark.parametrize("before", [RunControl(), BOARD], ids=["none", "files"])
@pytest.mark.parametrize("lost", [0, 9], ids=["whole", "cut off"])
def test_every_epoch_is_there_once(tmp_path: Path, before: RunControl, lost: int) -> None:
    root = tmp_path / "b"
    killed_after(2, root, before)
    folder = root / "training" / FOLDER
    for file in folder.glob(EVENTS):  # not of the same second as the next
        data = file.read_bytes()
        file.with_name("events.out.tfevents.1700000000.host").write_bytes(data[: len(data) - lost])
        file.unlink()
    train_bundle(root, LONGER, control=replace(BOARD, resume="must"))
    found = Counter(one for file in folder.glob(EVENTS) for one in figures(file))
    epochs = {one: count for one, count in found.items() if one[0].startswith("epoch/")}
    assert epochs == {(f"epoch/{name}", epoch): 1 for name in NAMES for epoch in (1, 2, 3)}
    assert set(found.values()) == {1}
