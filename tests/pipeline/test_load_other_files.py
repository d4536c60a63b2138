"""``load`` names a file that holds no weights before it asks what network they are for."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, save_model
from PIL import Image
from safetensors.torch import save, save_file

from vgg_deploy.bundle import Bundle
from vgg_deploy.cli import main

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 553433881\n"
HTML = b"\n<!DOCTYPE html><html><body>Not found</body></html>"
NET = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU()).eval()
IMAGE = torch.zeros(1, 1, 4, 4)
Write = Callable[[Path], object]


def onnx(path: Path, **producer: str) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["x1"])], "g", [value], [])
    save_model(helper.make_model(graph, **producer), path)


def program(path: Path) -> None:
    torch.export.save(torch.export.export(NET, (IMAGE,)), str(path))


def torchscript(path: Path) -> None:
    torch.jit.trace(NET, IMAGE).save(str(path))


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("weights/readme.txt", "here")


def tar(path: Path, mode: str = "w") -> None:
    with tarfile.open(str(path), mode) as file:  # type: ignore[call-overload]
        file.addfile(tarfile.TarInfo("w.pth"), io.BytesIO())


def damaged(path: Path) -> None:
    save_file(NET.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-9])


FILES: dict[str, tuple[Write, str, str]] = {
    "m.onnx": (onnx, "is an ONNX file", "it was made from"),
    "onnx.pth": (lambda p: onnx(p, producer_name="torch"), "is an ONNX file", "it was made from"),
    "m.pt2": (program, "is an exported program", "that it was made from"),
    "m.pt": (torchscript, "is a TorchScript archive", "state_dict()"),
    "labels.txt": (lambda p: p.write_text("cat\ndog\nHündin\n"), "is a text", "--labels"),
    "text.safetensors": (lambda p: p.write_text("cat\ndog\n"), "is a text", "--labels"),
    "m.xml": (lambda p: p.write_text("<?xml version='1.0'?><net/>"), "is a text", "the weights"),
    "page.pth": (lambda p: p.write_bytes(HTML), "is an HTML page", "download it again"),
    "page.safetensors": (lambda p: p.write_bytes(HTML), "is an HTML page", "download it again"),
    "lfs.pth": (lambda p: p.write_bytes(LFS), "is a pointer of git-lfs", "git lfs pull"),
    "lfs.safetensors": (lambda p: p.write_bytes(LFS), "is a pointer of git-lfs", "git lfs pull"),
    "a.zip": (archive, "is a ZIP archive", "unpack it"),
    "a.tar": (tar, "is a tar archive", "unpack it"),
    "a.tar.gz": (lambda p: tar(p, "w:gz"), "is a compressed file", "unpack it"),
    "a.npy": (lambda p: np.save(p, np.zeros(3)), "is a NumPy array", "torch.save"),
    "a.npz": (lambda p: np.savez(p, a=np.zeros(3)), "archive of NumPy arrays", "torch.save"),
    "a.png": (lambda p: Image.new("L", (4, 4)).save(p), "is an image", "of the weights"),
    "zeros.bin": (lambda p: p.write_bytes(bytes(9999)), "nothing but zeros", "download it again"),
    "noise.bin": (lambda p: p.write_bytes(b"\xfe\xed" * 99), "did not write it", "download it"),
    "empty.pth": (Path.touch, "is empty", "with content"),
    "cut.safetensors": (damaged, "is not a whole safetensors file", "download it again"),
    "other.safetensors": (lambda p: torch.save(NET.state_dict(), p), "torch.save", "in .pth"),
    "old.safetensors": (
        lambda p: torch.save(NET.state_dict(), p, _use_new_zipfile_serialization=False),
        "is a file of torch.save under another name",
        "in .pth",
    ),
    "other.pth": (
        lambda p: p.write_bytes(save(NET.state_dict())), "is a safetensors file", ".safetensors"
    ),
    "odd.pth": (lambda p: torch.save({"a": 1}, p), "not hold a state dict", "torch.save"),
    "folder": (Path.mkdir, "is a folder", "give a file of weights"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", FILES)
def test_a_file_without_weights_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    write, cause, remedy = FILES[name]
    path = tmp_path / name
    write(path)
    for more in ((), ("--arch", "vgg16"), ("--arch", "vgg99")):
        capfd.readouterr()
        assert main(["load", "--weights", str(path), "-o", str(tmp_path / "b"), *more]) == 3
        told = " ".join(capfd.readouterr().err.split())
        first, second = told.split(" remedy: ")
        assert cause in first, told
        assert remedy in second, told
        assert not (tmp_path / "b").exists()


def test_weights_are_asked_for_their_architecture(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, write in (("w.pth", torch.save), ("w.safetensors", save_file)):
        write(NET.state_dict(), tmp_path / name)
        assert main(["load", "--weights", str(tmp_path / name), "-o", str(tmp_path / "b")]) == 2
        assert "does not say what network it is for" in capfd.readouterr().err


def test_a_folder_is_answered_with_the_weights_in_it(
    tiny_bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["load", "--weights", str(tiny_bundle.root), "-o", str(tmp_path / "b")]
    assert main(words) == 3
    told = " ".join(capfd.readouterr().err.split())
    assert f"for example {tiny_bundle.path(tiny_bundle.checkpoint)}" in told
