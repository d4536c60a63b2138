"""What a file is that holds no weights one can load, by its first bytes, and what to do then."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.errors import RefusedInput, os_errors

_HEAD = 4096  # bytes that are looked at
_ALL = re.DOTALL
_SAFETENSORS = re.compile(rb".{5}\0{3}\{", _ALL)  # a length of less than 2^40, then JSON
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # torch.save before version 1.6


@dataclass(frozen=True)
class Kind:
    """``what`` completes "the file is ..."."""

    what: str
    remedy: str


_AGAIN = "download it again, from the address of the file itself"
_ORIGIN = "give the weights that it was made from, as a .safetensors file or one of torch.save"
_UNPACK = "unpack it and give the weights that lie in it"
_SAVE = "save the state dict with torch: torch.save(model.state_dict(), path)"
_STARTS: tuple[tuple[re.Pattern[bytes], Kind], ...] = tuple(
    (re.compile(start, _ALL), Kind(what, remedy))
    for start, what, remedy in (
        (
            rb"version https://git-lfs",
            "a pointer of git-lfs and not the file that it stands for",
            "fetch that file in its repository: git lfs pull",
        ),
        (rb"\s*(?i:<!doctype html|<html)", "an HTML page, as a failed download leaves it", _AGAIN),
        (rb"\x89HDF", "an HDF5 file, as Keras writes it", _SAVE),
        (rb".{4}TFL3", "a TensorFlow Lite model", _ORIGIN),
        (rb"GGUF", "a GGUF file", _ORIGIN),
        (rb"[fp]trt", "a TensorRT engine", _ORIGIN),
        # ir_version, and then a producer, a domain or a description, the graph or the opset
        (rb"\x08[\x01-\x20][\x12\x1a\x22\x32\x3a\x42]", "an ONNX file", _ORIGIN),
        (rb"\x93NUMPY", "a NumPy array", _SAVE),
        (rb"\x89PNG|\xff\xd8\xff|GIF8|BM.{4}\0{4}", "an image", "give the file of the weights"),
        (rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "a compressed file", _UNPACK),
        (rb".{257}ustar", "a tar archive", _UNPACK),
        (rb"\0{64,}\Z", "nothing but zeros where it begins", _AGAIN),
    )
)
_TEXT = Kind("a text and no weights", "give the file of the weights; labels go to --labels")
_ARCHIVES: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (
        re.compile(r"[^/]+/constants\.pkl"),
        Kind(
            "a TorchScript archive, not a state dict",
            "save its state_dict(): torch.save(torch.jit.load(path).state_dict(), other)",
        ),
    ),
    (re.compile(r".*\baotinductor/.*"), Kind("a package of AOTInductor", _ORIGIN)),
    (
        re.compile(r"([^/]+/)?(archive_format|serialized_exported_program\.json)"),
        Kind("an exported program of torch.export, not a state dict", _ORIGIN),
    ),
    (re.compile(r"[^/]+\.npy"), Kind("an archive of NumPy arrays", _SAVE)),
)
_ZIP = Kind("a ZIP archive without weights of torch.save", _UNPACK)


def refused(path: Path) -> RefusedInput | None:
    """The error for a file that would not load, where its bytes tell what it is instead."""
    kind = recognised(path)
    return RefusedInput(f"{path} is {kind.what}", kind.remedy) if kind else None


def recognised(path: Path) -> Kind | None:
    """What a file is; None for what could be damaged weights under their usual name."""
    with os_errors(f"read {path}"), path.open("rb") as file:
        head = file.read(_HEAD)
    tensors = path.suffix == ".safetensors"
    if _SAFETENSORS.match(head):
        return None if tensors else _misnamed("a safetensors file", ".safetensors")
    if head.startswith(b"PK\x03\x04"):
        return _of_archive(path, tensors=tensors)
    if head.startswith(_LEGACY):
        return _misnamed("a file of torch.save", ".pth") if tensors else None
    if found := next((kind for start, kind in _STARTS if start.match(head)), None):
        return found
    if path.suffix == ".onnx":
        return Kind("no whole ONNX file, and holds no state dict", _ORIGIN)
    return _TEXT if _is_text(head) else None


def _misnamed(what: str, suffix: str) -> Kind:
    return Kind(f"{what} under another name", f"rename it, so that its name ends in {suffix}")


def _of_archive(path: Path, *, tensors: bool) -> Kind | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # damaged: whatever the format's fields say, nothing is known
        return None
    for name, kind in _ARCHIVES:
        if any(map(name.fullmatch, names)):
            return kind
    if any(name.endswith("data.pkl") for name in names):
        return _misnamed("a file of torch.save", ".pth") if tensors else None
    return _ZIP


def _is_text(head: bytes) -> bool:
    """Whether all letters are UTF-8 that prints; the last one may be cut."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < _HEAD - 4:
            return False
        text = head[: error.start].decode("utf-8")
    return all(letter.isprintable() or letter.isspace() for letter in text.removeprefix("\ufeff"))
