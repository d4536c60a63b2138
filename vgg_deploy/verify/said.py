"""What a file says about itself: labels, preprocessing and weights, beside the bundle's card.

An app that embeds the file believes it, so a file that says otherwise is as wrong as one that
computes otherwise.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic_core import to_jsonable_python

from vgg_deploy.artifact import Format
from vgg_deploy.errors import DigestMismatch
from vgg_deploy.spec import ModelCard

_PREFIX = "vgg_deploy."
_GRAPH = 7  # field of a ModelProto; the weights are in it
_WIRE_VARINT, _WIRE_BYTES = 0, 2
_VARINT_BITS = 64


def require_own(path: Path, format: Format, card: ModelCard) -> None:
    """Raise ``DigestMismatch`` for a file that says otherwise than the card of its bundle."""
    if said := contradiction(path, format, card):
        raise DigestMismatch(f"{path}: {said}", "restore manifest.json, or make the bundle again")


def contradiction(path: Path, format: Format, card: ModelCard) -> str | None:
    """What a file says of itself that the card does not; None when it agrees or says nothing."""
    said = _said(path, format)
    wanted = to_jsonable_python(card)
    for name in ("labels", "preprocessing"):
        if name in said and said[name] != wanted[name]:
            return f"the file itself holds other {name} than the bundle's card"
    return None


def _said(path: Path, format: Format) -> Mapping[str, object]:
    if format in ("onnx", "embedded"):
        texts = {k.removeprefix(_PREFIX): v for k, v in onnx_metadata(path).items()}
    elif format in ("torchscript", "program", "aoti"):
        texts = _zipped(path)
    else:
        return {}
    found: dict[str, object] = {}
    for name in ("labels", "preprocessing"):
        if name in texts:
            try:
                found[name] = json.loads(texts[name])
            except (ValueError, RecursionError):
                found[name] = None
    return found


def onnx_metadata(path: Path) -> dict[str, str]:
    """Model-level metadata of an ONNX file, without reading its weights."""
    import onnx
    from google.protobuf.message import DecodeError

    model = onnx.ModelProto()
    try:
        model.ParseFromString(_without_graph(path))
    except (DecodeError, IndexError):
        return {}  # damaged: whoever opens it will say so
    return {entry.key: entry.value for entry in model.metadata_props}


def _without_graph(path: Path) -> bytes:
    """The fields of a ModelProto beside its graph, which is skipped by its length."""
    kept, size = bytearray(), path.stat().st_size
    with path.open("rb") as file:
        while head := file.read(1):
            tag, raw = _varint(head, file.read)
            number, wire = tag >> 3, tag & 7
            value, length = _varint(file.read(1), file.read)
            body = b""
            if wire == _WIRE_BYTES and value > size:
                raise IndexError(f"a field of {value} bytes in a file of {size}")
            if wire == _WIRE_BYTES and number == _GRAPH:
                file.seek(value, 1)
                continue
            if wire == _WIRE_BYTES:
                body = file.read(value)
            elif wire != _WIRE_VARINT:
                raise IndexError(f"wire type {wire} in a ModelProto")
            kept += raw + length + body
    return bytes(kept)


def _varint(first: bytes, read: Callable[[int], bytes]) -> tuple[int, bytes]:
    """A protobuf number and its bytes; ``IndexError`` for none: the file ends, or is none."""
    text, value, shift = first, first[0] & 0x7F, 7
    while text[-1] & 0x80:
        more = read(1)
        if not more or shift >= _VARINT_BITS:
            raise IndexError("no number here")
        text += more
        value |= (more[0] & 0x7F) << shift
        shift += 7
    return value, text


def _zipped(path: Path) -> dict[str, str]:
    """The JSON texts that TorchScript and ``.pt2`` files carry."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if "/extra/" in n and n.endswith(".json")]
            return {Path(n).stem: archive.read(n).decode() for n in names}
    except MemoryError:
        raise
    except Exception:  # zipfile raises a dozen kinds: lengths, methods, passwords, text
        return {}
