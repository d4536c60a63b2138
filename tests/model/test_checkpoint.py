"""Headers of checkpoints that are none."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from vgg_deploy.errors import RefusedInput
from vgg_deploy.model.checkpoint import read_header


@pytest.mark.parametrize("header", [b"{", b"[]", b"[" * 100_000])
def test_a_header_that_is_no_object_is_refused(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(RefusedInput, match="not a whole safetensors file"):
        read_header(path)
