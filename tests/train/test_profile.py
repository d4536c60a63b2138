from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.autograd import DeviceType  # type: ignore[attr-defined]  # torch's own, unlisted

from tests.train.test_auto_batch import Notes
from tests.train.test_loop import quick
from tests.train.test_restart import Signalled
from vgg_deploy import environment, jsonio
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import Interrupted
from vgg_deploy.files import sha256_of
from vgg_deploy.spec import ModelCard
from vgg_deploy.train.loop import train
from vgg_deploy.train.options import RunControl
from vgg_deploy.train.profile import StepProfile, _by_kind, told


@pytest.mark.parametrize(("ema", "more"), [(0.0, set()), (0.9, {"averages"})])
def test_where_a_step_goes(
    tmp_path: Path,
    card: ModelCard,
    few: Dataset,
    capfd: pytest.CaptureFixture[str],
    ema: float,
    more: set[str],
) -> None:
    options, watch = quick(batch=8, epochs=1, ema=ema), Notes()
    train(card, few, options, tmp_path, watch, RunControl(profile=True))
    found = jsonio.load(StepProfile, tmp_path / "profile.json")
    assert set(found.phases_ms) == {"forward and loss", "backward", "optimiser", "rest"} | more
    assert all(value > 0 for value in found.phases_ms.values())
    assert sum(found.phases_ms.values()) == pytest.approx(found.step_ms)
    assert sum(found.kinds.values()) == pytest.approx(1)
    assert {"convolution", "ReLU", "pooling", "fully connected"} | more <= set(found.kinds)
    (line,) = watch.notes
    assert re.match(r"a step takes [\d.]+ ms in fp32: ", line)
    assert (found.precision, found.compiled) == ("fp32", False)
    assert capfd.readouterr().err == ""  # torch's profiler is kept quiet
    train(card, few, options, tmp_path / "plain")
    names = ("last.safetensors", "plain/last.safetensors")
    assert len({sha256_of(tmp_path / name) for name in names}) == 1  # looking changes nothing


def test_an_epoch_of_few_steps(tmp_path: Path, card: ModelCard, few: Dataset) -> None:
    watch = Notes()
    train(card, few, quick(epochs=5), tmp_path, watch, RunControl(profile=True))
    assert watch.notes == ["no profile: an epoch has less than 10 steps"]
    assert not (tmp_path / "profile.json").exists()


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (5, "a step takes "),  # after 8 more of the first epoch, 13 of the second
        (7, "a step takes "),  # torch's profiler is at work when the first epoch ends
        (18, "no profile: the last epoch had less than 10 steps left"),
    ],
)
def test_a_run_that_is_resumed_near_an_epochs_end(
    tmp_path: Path, card: ModelCard, few: Dataset, step: int, said: str
) -> None:
    options, watch = quick(batch=8), Notes()
    with pytest.raises(Interrupted):
        train(card, few, options, tmp_path, Signalled(step))
    train(card, few, options, tmp_path, watch, RunControl(resume="must", profile=True))
    assert len(watch.notes) == 2
    assert watch.notes[1].startswith(said)
    assert (tmp_path / "profile.json").exists() == (step < 13)
    train(card, few, options, tmp_path / "plain")
    names = ("last.safetensors", "plain/last.safetensors")
    assert len({sha256_of(tmp_path / name) for name in names}) == 1


def test_a_kernel_is_counted_once() -> None:
    """On a GPU its time stands at the operator and at the kernel."""

    def event(key: str, device: DeviceType, on_device: float) -> SimpleNamespace:
        return SimpleNamespace(
            key=key, device_type=device, self_device_time_total=on_device, self_cpu_time_total=9.0
        )

    events = [
        event("aten::conv2d", DeviceType.CPU, 30.0),
        event("sm90_implicit_gemm", DeviceType.CUDA, 30.0),
        event("aten::relu", DeviceType.CPU, 10.0),
        event("vectorized_elementwise_kernel", DeviceType.CUDA, 10.0),
        event("aten::empty", DeviceType.CPU, 0.0),
    ]
    found = _by_kind(SimpleNamespace(key_averages=lambda: events))
    assert found == {"convolution": 0.75, "ReLU": 0.25, "other": 0.0}


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("cuda", "triton_poi_fused_convolution_max_pool2d_with_indices_relu_3"),
        ("cpu", "graph_0_cpp_fused_convolution_backward_max_pool2d_with_indices_backward_6"),
    ],
)
def test_what_inductor_fused_is_no_convolution(device: str, name: str) -> None:
    """Its kernels are named after all that they do beside the convolution."""

    def event(key: str, time: float) -> SimpleNamespace:
        spent = {"self_cpu_time_total": time, "self_device_time_total": time * (device == "cuda")}
        return SimpleNamespace(key=key, device_type=DeviceType.CPU, **spent)

    events = [
        event("aten::convolution", 30.0),
        event(name, 8.0),
        event("## Call CompiledFxGraph foxv5mkaor ##", 1.0),
        event("CompiledFunctionBackward", 1.0),
    ]
    found = _by_kind(SimpleNamespace(key_averages=lambda: events))
    assert found == {"convolution": 0.75, "fused by inductor": 0.2, "compiled code": 0.05}


def test_a_profile_of_an_earlier_version_is_told() -> None:
    """It says neither in which precision it was nor whether compiled."""
    here = environment.capture()
    found = StepProfile(
        environment=here, steps=4, batch=8, step_ms=2.0, phases_ms={"rest": 2.0}, overhead=1.0,
        kinds={"other": 1.0},
    )  # fmt: skip
    older = json.loads(jsonio.dumps(found))
    del older["precision"], older["compiled"]
    read = jsonio.loads(StepProfile, json.dumps(older), source="profile.json")
    assert told(read) == "a step takes 2.0 ms: rest 100%; by kind: other 100%"
