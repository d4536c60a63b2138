"""What a result is about: one artifact in one backend."""

from __future__ import annotations

from dataclasses import dataclass

from vgg_deploy.artifact import Format, Precision


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One cell of the matrix: an artifact opened by a backend."""

    artifact: str  # path inside the bundle
    sha256: str
    size_bytes: int
    format: Format
    precision: Precision
    backend: str
    device: str  # "cpu" or "cuda"

    @property
    def id(self) -> str:
        """Name of the cell: ``ort-cpu:model.fp32.onnx``."""
        return f"{self.backend}:{self.artifact}"
