"""Checkpoints whose header or card is not that of their tensors."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.conftest import make_card
from vgg_deploy.bundle import Bundle
from vgg_deploy.errors import RefusedInput
from vgg_deploy.model.checkpoint import load_model, load_state, read_header, save_checkpoint


@pytest.mark.parametrize("header", [b"{", b"[]", b"[" * 100_000])
def test_a_header_that_is_no_object_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(RefusedInput, match="not a whole safetensors file"):
        read_header(path)


@pytest.mark.parametrize("shape", ["[0, 9223372036854775808, 1]", "[9223372036854775808, 0]"])
def test_a_side_that_no_tensor_has(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "model.safetensors"
    header = f'{{"a": {{"dtype": "F32", "shape": {shape}, "data_offsets": [0, 0]}}}}'.encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(RefusedInput, match="not a whole safetensors file"):
        load_state(path)


@pytest.mark.parametrize("other", ["1x4-1x8-2x9", "1x4-1x8"])
def test_a_card_of_another_network(tiny_bundle: Bundle, tmp_path: Path, other: str) -> None:
    state = load_state(tiny_bundle.path(tiny_bundle.checkpoint))
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, make_card(other), state)
    with pytest.raises(RefusedInput, match=f"other tensors than those of the {other}"):
        load_model(path)
    save_checkpoint(path, tiny_bundle.card, state)
    assert load_model(path).state_dict().keys() == state.keys()
