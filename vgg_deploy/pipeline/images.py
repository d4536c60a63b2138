"""Which real images a bundle is verified and timed with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.sources import open_dataset
from vgg_deploy.spec import NAMED_DATA, ModelCard


@dataclass(frozen=True)
class Images:
    """A data set for a bundle, and why its labels do or do not apply."""

    dataset: Dataset
    no_accuracy: str  # why accuracy cannot be told; empty when it can

    @property
    def source(self) -> str:
        """Data set and split, for results."""
        return f"{self.dataset.name} test"


def images_for(card: ModelCard, name: str | None = None, data_dir: Path | None = None) -> Images:
    """The data set the model was trained on where it is at hand, else images of the sample.

    The sample is a part of Fashion-MNIST, split as there, so a model of either is tested on the
    10,000 images where they are.

    A data set asked for by ``name``, or by the path of a folder of images, must be there; without
    one the sample inside the package always is.
    """
    wanted = name or ("auto" if card.dataset in NAMED_DATA or data_dir else "sample")
    dataset = open_dataset(wanted, data_dir, card.preprocessing)
    if card.labels == dataset.labels:
        return Images(dataset, "")
    if name is not None and card.dataset is None and len(card.labels) == len(dataset.labels):
        return Images(dataset, "")  # asked for by name: the classes are the user's word
    return Images(dataset, f"{dataset.name} has other classes than this model")
