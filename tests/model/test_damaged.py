"""Damaged and unusual weights files: the network's tensors, or an error with a remedy."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vgg_deploy.errors import RefusedInput, VggDeployError
from vgg_deploy.model.checkpoint import read_header, save_tensors
from vgg_deploy.model.infer import infer_spec
from vgg_deploy.model.keys import to_torchvision
from vgg_deploy.model.state_file import read_state
from vgg_deploy.model.torchvision import fitted
from vgg_deploy.model.vgg import VGG
from vgg_deploy.spec import ModelSpec

ARCH = "1x2-1x4"
SPEC = ModelSpec.named(ARCH, size=4, channels=1, classes=2, fc_width=4)
State = dict[str, torch.Tensor]


@pytest.fixture
def state() -> State:
    torch.manual_seed(0)
    return to_torchvision(SPEC, VGG(SPEC).state_dict())


def legacy(state: State, path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def loaded(path: Path) -> State:
    state = read_state(path)
    return fitted(infer_spec(state, ARCH, size=4), state, source=str(path))


@pytest.mark.parametrize(
    ("name", "save"), [("a.pth", torch.save), ("b.pth", legacy), ("c.safetensors", save_file)]
)
def test_any_byte_may_be_wrong(
    state: State, tmp_path: Path, name: str, save: Callable[[State, Path], None]
) -> None:
    """No format guards the weights' own bytes, so values may differ; nothing else may."""
    path = tmp_path / name
    save(state, path)
    whole, wanted = path.read_bytes(), VGG(SPEC).state_dict()
    random = np.random.default_rng(0)
    refused = 0
    for turn in range(1500):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= int(random.integers(1, 256))
        flipped = path.with_name(f"{turn}{path.suffix}")  # what was loaded may be mapped
        flipped.write_bytes(damaged)
        try:
            found = loaded(flipped)
        except VggDeployError:
            refused += 1
        else:
            kinds = [(key, v.shape, v.dtype) for key, v in found.items()]
            assert kinds == [(key, v.shape, v.dtype) for key, v in wanted.items()]
            assert all(torch.isfinite(v).all() for v in found.values())
        flipped.unlink()
    assert refused > 300


def test_a_safetensors_header_is_right_or_refused(state: State, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(state, path)
    whole = path.read_bytes()
    exact = {key: value.clone() for key, value in loaded(path).items()}
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    for at in range(end):
        flipped = tmp_path / f"{at}.safetensors"
        flipped.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            found = loaded(flipped)
        except VggDeployError:
            continue
        assert all(torch.equal(found[key], exact[key]) for key in exact)


def test_a_header_nested_without_end(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for text in ("[" * 100_000, '{"__metadata__":' * 100_000):
        path.write_bytes(struct.pack("<Q", len(text)) + text.encode())
        for read in (read_header, read_state):
            with pytest.raises(RefusedInput, match="not a whole safetensors file"):
                read(path)


@pytest.mark.parametrize("key", ["features.0.weight", "features.3.weight", "classifier.6.weight"])
@pytest.mark.parametrize("shape", [(), (0,), (1, 1, 1, 1, 1)])
def test_a_weight_of_another_rank(state: State, key: str, shape: tuple[int, ...]) -> None:
    odd = {**state, key: torch.zeros(shape)}
    with pytest.raises(RefusedInput, match=r"wrong shape|too much: classifier\.6\.weight"):
        fitted(infer_spec(odd, ARCH, size=4), odd, source="x")


def test_weights_that_are_stored_in_another_way(state: State, tmp_path: Path) -> None:
    exact = fitted(SPEC, state, source="x")
    sparse = {key: value.to_sparse() for key, value in state.items()}
    torch.save(sparse, tmp_path / "sparse.pth")
    found = loaded(tmp_path / "sparse.pth")
    assert all(torch.equal(found[key], exact[key]) for key in exact)
    eight = {key: value.to(torch.float8_e4m3fn) for key, value in state.items()}
    for name, save in (("eight.pth", torch.save), ("eight.safetensors", save_file)):
        save(eight, tmp_path / name)
        found = loaded(tmp_path / name)
        assert {value.dtype for value in found.values()} == {torch.float32}
        bias = "head.fc8.bias"
        assert torch.equal(found[bias], eight["classifier.6.bias"].float())
    eight["classifier.6.bias"].view(torch.uint8).fill_(0x7F)
    with pytest.raises(RefusedInput, match=r"head\.fc8\.bias of x holds NaN"):
        fitted(SPEC, eight, source="x")


def test_tensors_without_values_are_refused(state: State) -> None:
    bare = {key: value.to("meta") for key, value in state.items()}
    with pytest.raises(RefusedInput, match="has no plain values"):
        fitted(SPEC, bare, source="x")
    large = torch.full_like(state["classifier.6.bias"], 1e300, dtype=torch.float64)
    with pytest.raises(RefusedInput, match="infinity"):
        fitted(SPEC, {**state, "classifier.6.bias": large}, source="x")


def test_tied_tensors_and_views_are_saved_apart(tmp_path: Path) -> None:
    base = torch.arange(8.0)
    tensors = {"a": base, "b": base, "first": base[:4], "last": base[4:], "other": base + 1}
    save_tensors(tmp_path / "x.safetensors", tensors, {"note": json.dumps("x")})
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)
