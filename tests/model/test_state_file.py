"""Which tensors of a training script's file are the weights, and what may lie beside them."""

from __future__ import annotations

import argparse
import os
import pickle
from collections import OrderedDict
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

from vgg_deploy.errors import RefusedInput, UsageError
from vgg_deploy.model.pickles import Inert, load_pickle
from vgg_deploy.model.state_file import read_state, read_state_file
from vgg_deploy.model.torchvision import fitted
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import ModelSpec

SPEC = ModelSpec.named("1x2-1x4_bn", size=4, channels=1, classes=2, fc_width=4)


@pytest.fixture
def network() -> VGG:
    torch.manual_seed(0)
    return VGG(SPEC)


def saved(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


def reads_as(found: dict[str, torch.Tensor], network: torch.nn.Module) -> bool:
    wanted = network.state_dict()
    ours = fitted(SPEC, found, source="x")
    return all(torch.equal(ours[key], wanted[key]) for key in wanted)


def test_raw_and_averaged_weights_in_one_file(network: VGG, tmp_path: Path) -> None:
    average = AveragedModel(network)
    with torch.no_grad():
        for parameter in average.module.parameters():
            parameter.add_(1)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.zeros(2, 1, 4, 4)).sum().backward()
    optimizer.step()
    path = saved(
        tmp_path / "x.pth",
        {
            "model_ema": average.state_dict(),
            "model": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "rng": {"cpu": torch.get_rng_state()},
        },
    )
    raw, averaged = read_state_file(path), read_state_file(path, "model_ema")
    assert (raw.key, raw.others) == ("model", ("model_ema",))
    assert (averaged.key, averaged.others) == ("model_ema", ("model",))
    assert reads_as(raw.state, network)
    assert reads_as(averaged.state, average.module)
    assert not reads_as(averaged.state, network)
    with pytest.raises(UsageError, match="unknown key 'ema'") as caught:
        read_state_file(path, "ema")
    assert "known: model_ema, model" in caught.value.remedy


@pytest.mark.parametrize("save", [torch.save, save_file])
def test_the_file_of_an_averaged_model_alone(network: VGG, tmp_path: Path, save: object) -> None:
    path = tmp_path / ("x.pth" if save is torch.save else "x.safetensors")
    save(AveragedModel(network).state_dict(), path)  # type: ignore[operator]
    assert reads_as(read_state(path), network)
    with pytest.raises(UsageError, match="is a state dict itself"):
        read_state_file(path, "module")


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        (["net"], "net"),
        (["a", "b"], None),
        (["b", "model_state_dict", "a"], "model_state_dict"),
        (["model", "state_dict"], "state_dict"),
    ],
)
def test_what_several_state_dicts_are_called(
    network: VGG, tmp_path: Path, keys: list[str], chosen: str | None
) -> None:
    state = network.state_dict()
    content = {key: OrderedDict(state) for key in keys}
    path = saved(tmp_path / "x.t7", {**content, "acc": 93.1, "epoch": 200})
    if chosen is None:
        with pytest.raises(RefusedInput, match="holds 2 state dicts: a, b") as caught:
            read_state(path)
        assert "--key a" in caught.value.remedy
        chosen = "b"
        assert read_state_file(path, "b").others == ("a",)
    else:
        found = read_state_file(path)
        assert (found.key, set(found.others)) == (chosen, set(keys) - {chosen})
    assert reads_as(read_state_file(path, chosen).state, network)


def test_state_dicts_deeper_in_a_file(network: VGG, tmp_path: Path) -> None:
    inner: dict[str, object] = {"state_dict": {"model": network.state_dict()}}
    inner["itself"] = inner
    assert read_state_file(saved(tmp_path / "x.pth", inner)).key == "state_dict.model"
    with pytest.raises(RefusedInput, match="does not hold a state dict"):
        read_state(saved(tmp_path / "y.pth", {"rng": {"cpu": torch.get_rng_state()}, "n": 3}))


def test_options_and_numbers_of_numpy_beside_the_weights(network: VGG, tmp_path: Path) -> None:
    path = saved(
        tmp_path / "x.pth",
        {
            "model": network.state_dict(),
            "args": argparse.Namespace(lr=0.1, out=PurePosixPath("x/y"), path=Path("a/b")),
            "best": np.float64(0.9),
            "random": np.arange(3, dtype=np.uint32),
        },
    )
    assert reads_as(read_state(path), network)
    beside = load_pickle(path)
    assert all(type(beside[key]) is Inert for key in ("args", "best", "random"))
    with pytest.raises(Exception, match="Unsupported global"):  # torch's own list is as it was
        torch.load(path, weights_only=True)


class Runs:
    """A pickle that calls what it names."""

    def __init__(self, what: object) -> None:
        self.what = what

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return self.what, ("true",)


@pytest.mark.parametrize(
    ("what", "named"), [(os.system, r"posix\.system|nt\.system"), (Path.home, "getattr")]
)
def test_what_could_run_code_is_named(tmp_path: Path, what: object, named: str) -> None:
    with pytest.raises(RefusedInput, match=rf"more than tensors \((?:{named})\)"):
        read_state(saved(tmp_path / "x.pth", Runs(what)))


def test_a_whole_model_is_named(network: VGG, tmp_path: Path) -> None:
    with pytest.raises(RefusedInput, match=r"\(vgg_deploy\.model\.vgg\.VGG\)"):
        read_state(saved(tmp_path / "x.pth", {"model": network}))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_and_truncated_files_say_so_in_whole_words(tmp_path: Path) -> None:
    script = tmp_path / "script.pt"
    torch.jit.trace(torch.nn.Linear(1, 1), torch.zeros(1)).save(str(script))
    with pytest.raises(RefusedInput, match="is a TorchScript archive") as caught:
        read_state(script)
    assert "state_dict()" in caught.value.remedy
    whole = saved(tmp_path / "whole.pth", {"a": torch.zeros(9000)}).read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RefusedInput, match=r"weights file: its end is missing$"):
        read_state(tmp_path / "half.pth")
    (tmp_path / "odd.pth").write_bytes(whole.replace(b"PK\x01\x02", b"PK\x01\x03"))
    (tmp_path / "x.pth").write_bytes(b"\x80\x02\x95 no pickle of torch")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": 1.0}))
    for name in ("odd.pth", "x.pth", "plain.pth"):
        with pytest.raises(RefusedInput, match="did not write it, or it is damaged"):
            read_state(tmp_path / name)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_count_of_batches_may_be_half(network: VGG, dtype: torch.dtype) -> None:
    count = "blocks.0.1.num_batches_tracked"
    state = {key: value.to(dtype) for key, value in network.state_dict().items()}
    ours = fitted(SPEC, {**state, count: torch.tensor(7, dtype=dtype)}, source="x")
    assert (int(ours[count]), ours[count].dtype) == (7, torch.int64)
    ours = fitted(SPEC, {**state, count: torch.tensor(torch.inf, dtype=dtype)}, source="x")
    assert int(ours[count]) == 0
    for odd in (torch.tensor(1j), torch.zeros(2)):
        with pytest.raises(RefusedInput, match="wrong"):
            fitted(SPEC, {**state, count: odd}, source="x")
    with pytest.raises(RefusedInput, match=r"wrong dtype: blocks\.0\.0\.bias int64"):
        fitted(SPEC, {**state, "blocks.0.0.bias": torch.zeros(2, dtype=torch.int64)}, source="x")
