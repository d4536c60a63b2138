"""torch's warning of the older TF32 switches, which only some versions give."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch

from vgg_deploy.backends.pytorch import exact_float32
from vgg_deploy.libraries import tf32_switches
from vgg_deploy.train.hardware import tuned

OLD = "Please use the new API settings to control TF32 behavior, such as …"


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of switches that were moved; each warns, as in torch 2.9 but every time."""
    found: list[str] = []

    def warning(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any) -> Any:
            found.append(name)
            warnings.warn(OLD, UserWarning, stacklevel=2)
            return call(*args)

        return called

    for name in ("_get_cudnn_allow_tf32", "_set_cudnn_allow_tf32"):
        monkeypatch.setattr(torch._C, name, warning(name, getattr(torch._C, name)))
    name = "set_float32_matmul_precision"
    monkeypatch.setattr(torch, name, warning(name, getattr(torch, name)))
    return found


def test_the_age_of_the_switches_is_not_told(moved: list[str]) -> None:
    exact_float32()
    assert moved == ["set_float32_matmul_precision"]
    with tuned(torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
        inside = len(moved)
    assert inside > 1
    assert len(moved) > inside, "they went back, silently too"


def test_other_warnings_are_told(moved: list[str]) -> None:
    with pytest.warns(UserWarning, match="something else"), tf32_switches():
        warnings.warn("something else", stacklevel=1)
    with pytest.warns(UserWarning, match="new API settings"), tuned(torch.device("cuda")):
        torch.set_float32_matmul_precision("highest")
    with pytest.warns(UserWarning, match="new API settings"):
        torch.set_float32_matmul_precision("highest")
