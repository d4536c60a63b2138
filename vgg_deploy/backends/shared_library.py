"""Shared libraries by name: which ones a file links, and loading them from wherever they lie.

NVIDIA's wheels put them into ``nvidia/*/lib`` and ``tensorrt_libs`` of a folder on ``sys.path``, of
which the dynamic linker knows nothing. Once a library is loaded, whatever links it finds it.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vgg_deploy.errors import first_line

_FOLDERS = ("nvidia/*/lib", "tensorrt_libs")  # of NVIDIA's wheels
_LOAD, _DYNAMIC = 1, 2  # types of program headers (elf.h)
_NEEDED, _STRINGS = 1, 5  # tags of dynamic entries


def needed_by(path: Path) -> tuple[str, ...]:
    """The names that a 64-bit ELF file links (``DT_NEEDED``), without loading it; () for others."""
    with path.open("rb") as file:
        head = file.read(64)
        if head[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian
            return ()
        segments = _segments(file, head)
        dynamic = next((s for s in segments if s[0] == _DYNAMIC), None)
        if dynamic is None:
            return ()
        _, offset, _, size = dynamic
        file.seek(offset)
        entries = list(struct.iter_unpack("<QQ", file.read(size)))
        address = next((value for tag, value in entries if tag == _STRINGS), 0)
        start = next((o + address - a for kind, o, a, n in segments
                      if kind == _LOAD and a <= address < a + n), None)  # fmt: skip
        if start is None:
            return ()
        return tuple(_text(file, start + value) for tag, value in entries if tag == _NEEDED)


def load_library(name: str) -> str:
    """Load a shared library for all that link it; empty, or the linker's words why it cannot be.

    Those words name the library that is missing, which may be one that ``name`` links.
    """
    try:
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        said = first_line(error)
    else:
        return ""
    for path in _in_wheels(name):
        try:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            said = first_line(error)
        else:
            return ""
    return said


def _in_wheels(name: str) -> Iterator[Path]:
    """Where NVIDIA's wheels have it: each folder of ``sys.path``, as of ``pip --target``, too."""
    for folder in dict.fromkeys(sys.path):
        for pattern in _FOLDERS:
            yield from sorted(Path(folder).glob(f"{pattern}/{name}"))


def _segments(file: BinaryIO, head: bytes) -> list[tuple[int, int, int, int]]:
    """Type, offset in the file, address and size of each program header."""
    (table,) = struct.unpack_from("<Q", head, 32)
    entry, count = struct.unpack_from("<HH", head, 54)
    file.seek(table)
    found = []
    for _ in range(count):
        kind, _flags, offset, address, _, size = struct.unpack_from("<IIQQQQ", file.read(entry))
        found.append((kind, offset, address, size))
    return found


def _text(file: BinaryIO, offset: int) -> str:
    file.seek(offset)
    return file.read(256).partition(b"\0")[0].decode(errors="replace")
