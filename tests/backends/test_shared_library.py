"""Shared libraries: what a file links is read, not loaded; wheels in other folders are found."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import onnxruntime as ort
import pytest

from vgg_deploy.backends.shared_library import load_library, needed_by

LACKS = "cannot open shared object file"


@pytest.mark.skipif(sys.platform != "linux", reason="ELF files are Linux's")
def test_what_a_library_links_is_read() -> None:
    capi = Path(ort.__file__).parent / "capi"
    found = needed_by(next(capi.glob("libonnxruntime_providers_shared.so")))
    assert "libc.so.6" in found
    assert all(".so" in name for name in found)


@pytest.mark.parametrize("content", [b"", b"MZ", b"\x7fELF\x01\x01" + bytes(90)])
def test_other_files_link_nothing_that_could_be_read(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.so").write_bytes(content)
    assert needed_by(tmp_path / "x.so") == ()


def test_a_wheel_beside_another_site_packages_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``pip --target`` puts onnxruntime into one folder, and torch's wheels stay in another."""
    wheel = tmp_path / "nvidia" / "cudnn" / "lib" / "libcudnn.so.9"
    wheel.parent.mkdir(parents=True)
    wheel.touch()
    loaded = []

    def load(name: str, mode: int) -> None:
        assert mode == ctypes.RTLD_GLOBAL
        if name != str(wheel):
            raise OSError(f"{name}: {LACKS}")
        loaded.append(name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(sys, "path", ["/nowhere", str(tmp_path)])
    assert load_library("libcudnn.so.9") == ""
    assert loaded == [str(wheel)]
    assert load_library("libcublas.so.13") == f"libcublas.so.13: {LACKS}"
