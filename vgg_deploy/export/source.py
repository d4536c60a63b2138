"""What every exporter is given: the checkpoint, its card, its digest and the options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vgg_deploy import jsonio
from vgg_deploy.errors import UsageError
from vgg_deploy.model.checkpoint import load_model
from vgg_deploy.spec import ModelCard

if TYPE_CHECKING:
    import torch

    from vgg_deploy.model.vgg import VGG

# torch.export specialises a size of 0 or 1 in the example, whatever it is told is dynamic.
EXAMPLE_BATCH = 2
_LARGEST_BATCH = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Choices that shape an exported file.

    ``max_batch`` is the largest batch ``program`` and ``aoti`` files accept (the smallest is 1);
    ``torchscript`` and ``onnx`` files have no limit. Raises ``UsageError`` out of range.
    """

    max_batch: int = 1024

    def __post_init__(self) -> None:
        if not EXAMPLE_BATCH <= self.max_batch <= _LARGEST_BATCH:
            raise UsageError(
                f"max batch {self.max_batch} is out of range",
                f"choose from {EXAMPLE_BATCH} to {_LARGEST_BATCH:,}",
            )


@dataclass(frozen=True, kw_only=True)
class Source:
    """A checkpoint whose digest was checked, and the record of the file to be made from it."""

    path: Path
    card: ModelCard
    sha256: str
    options: ExportOptions
    made_by: Mapping[str, str]

    def model(self) -> VGG:
        """The network with its weights: CPU, float32, eval mode, no gradients."""
        return load_model(self.path).requires_grad_(False)

    def example(self) -> torch.Tensor:
        """Normal noise ``[2, channels, size, size]`` with a seed of its own, float32."""
        import torch

        spec = self.card.spec
        shape = (EXAMPLE_BATCH, spec.channels, spec.size, spec.size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def texts(self) -> dict[str, str]:
        """Files that TorchScript and ``.pt2`` carry inside: name to JSON text."""
        return {
            "card.json": jsonio.dumps(self.card, indent=None),
            "labels.json": jsonio.dumps(self.card.labels, indent=None),
            "preprocessing.json": jsonio.dumps(self.card.preprocessing, indent=None),
        }
