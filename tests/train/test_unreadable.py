"""Checkpoints that cannot be read for a while are neither damaged nor another run's."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.train.test_loop import quick
from tests.train.test_restart import Signalled
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import Interrupted, RefusedInput
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.loop import train
from vgg_deploy.train.options import RunControl
from vgg_deploy.train.outcome import BEST_FILE
from vgg_deploy.train.store import COMPLETE, JOB, STATE, TENSORS, Store

MAY = RunControl(resume="may")


@pytest.mark.parametrize("name", [TENSORS, STATE, COMPLETE, JOB, BEST_FILE])
def test_what_cannot_be_read_at_this_moment_is_kept(
    tmp_path: Path, card: ModelCard, few: Dataset, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A network file system that is away for a while."""

    def refuse(self: Path, *given: Any, **kinds: Any) -> Any:
        if self.name == name:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return plain(self, *given, **kinds)

    with pytest.raises(Interrupted):
        train(card, few, quick(), tmp_path, Signalled(6), MAY)
    before, plain = Store(tmp_path).found(), Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(RefusedInput, match=r"could not read .*Stale file handle"):
            train(card, few, quick(), tmp_path, control=MAY)
    assert Store(tmp_path).found() == before
    watch = Signalled(0)
    train(card, few, quick(), tmp_path, watch, MAY)
    assert watch.notes == ["resumed in epoch 2 after step 6"]
