"""The IDX file format of MNIST and its relatives, read strictly.

Format: two zero bytes, a type code (8 is uint8), the number of axes, one big-endian uint32 per
axis, then the values (LeCun, Cortes and Burges, "The MNIST Database", section "File formats").
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.errors import DigestMismatch, RefusedInput, os_errors

_UINT8 = 8
GZIP_MAGIC = b"\x1f\x8b"


def read_content(path: Path, limit: int) -> bytes:
    """What a file holds, decompressed where it is gzip; at most ``limit`` + 1 bytes of it.

    The limit keeps a small file from unpacking into all memory. ``DigestMismatch`` when the
    gzip stream is truncated or damaged.
    """
    with os_errors(f"read {path}"), path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
        file.seek(0)
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
        try:
            return stream.read(limit + 1)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DigestMismatch(
                f"{path} is a truncated or damaged gzip file: {error}",
                "remove it and get it again",
            ) from error


def parse_idx(content: bytes, source: str) -> NDArray[np.uint8]:
    """The array of an IDX file of uint8 values; ``source`` names the file in errors."""
    if len(content) < 4 or content[:3] != bytes((0, 0, _UINT8)):
        raise _refused(source, "does not begin as an IDX file of uint8 values")
    axes = content[3]
    start = 4 + 4 * axes
    if not axes or len(content) < start:
        raise _refused(source, "ends inside its header")
    shape = struct.unpack(f">{axes}I", content[4:start])
    expected = int(np.prod(shape, dtype=object))  # Python integers: no overflow
    if len(content) - start != expected:
        raise _refused(
            source, f"holds {len(content) - start:,} values where its header says {expected:,}"
        )
    values = np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    return np.array(values, np.uint8)  # a copy: views of bytes are read-only


def format_idx(values: NDArray[np.uint8]) -> bytes:
    """The IDX file of an array of uint8 values."""
    header = bytes((0, 0, _UINT8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + np.ascontiguousarray(values).tobytes()


def _refused(source: str, problem: str) -> RefusedInput:
    return RefusedInput(f"{source} {problem}", "remove it and get it again")
