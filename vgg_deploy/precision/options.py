"""With which images a precision is calibrated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.errors import UsageError

IMAGES = 128  # where nobody says how many
_MOST_IMAGES = 10_000


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """``images`` training images to measure activations with, as many others to compare on.

    Raises ``UsageError`` out of range: fewer images than a batch hold no statistics.
    """

    data: str | None = None  # None: the data set the model was trained on
    data_dir: Path | None = None
    images: int | None = None  # None: as for a file that is there of these data, else IMAGES
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images is not None and not 8 <= self.images <= _MOST_IMAGES:
            raise UsageError(
                f"calibration images: {self.images} is out of range",
                f"choose from 8 to {_MOST_IMAGES:,}",
            )

    @property
    def count(self) -> int:
        """How many images it is, where no file that is there says so."""
        return IMAGES if self.images is None else self.images

    @property
    def names_nothing(self) -> bool:
        """Whether it leaves the images to what is there."""
        return self.data is None and self.data_dir is None and self.images is None
