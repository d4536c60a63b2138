from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from vgg_deploy import environment
from vgg_deploy.errors import BackendNotAvailable
from vgg_deploy.train.hardware import choose_device, choose_precision

CPU = torch.device("cpu")


def with_flags(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    machine = replace(environment.capture(), cpu_flags=flags)
    monkeypatch.setattr(environment, "capture", lambda: machine)


@pytest.mark.parametrize("flag", ["avx512_bf16", "amx_bf16"])
def test_bf16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    with_flags(monkeypatch, "avx2", flag)
    assert choose_precision("auto", CPU) == "bf16"
    assert choose_precision("bf16", CPU) == "bf16"
    assert choose_precision("fp32", CPU) == "fp32"


def test_fp32_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with_flags(monkeypatch, "avx2", "avx512f")
    assert choose_precision("auto", CPU) == "fp32"
    with pytest.raises(BackendNotAvailable) as caught:
        choose_precision("bf16", CPU)
    assert "--precision" in caught.value.remedy


@pytest.mark.parametrize(
    ("present", "wanted", "chosen"),
    [(False, "auto", "cpu"), (False, "cpu", "cpu"), (True, "auto", "cuda"), (True, "cpu", "cpu")],
)
def test_device(monkeypatch: pytest.MonkeyPatch, present: bool, wanted: str, chosen: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    assert choose_device(wanted).type == chosen


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendNotAvailable, match="CUDA"):
        choose_device("cuda")
