"""Which real images a bundle is verified with, and which class of theirs is which of its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vgg_deploy.bundle import Bundle
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.sources import open_dataset
from vgg_deploy.errors import RefusedInput
from vgg_deploy.results.verified import wilson
from vgg_deploy.spec import NAMED_DATA, ModelCard

WEIGHTS_FILES = "weights_files"  # in made_by: ``Dataset.files`` that the weights had seen before


@dataclass(frozen=True)
class Images:
    """A data set for a bundle, and why its labels do or do not apply."""

    dataset: Dataset  # its labels are the model's where accuracy can be told
    no_accuracy: str  # why accuracy cannot be told; empty when it can
    remark: str = ""  # for people: how classes are matched where they are not the same
    own_order: tuple[str, ...] = ()  # the data set's labels, where it has them in another order
    unseen: NDArray[np.intp] | None = None  # test images not trained on; None: no difference
    doubts: tuple[str, ...] = ()  # for people: what is or may be wrong with the accuracy

    @property
    def split(self) -> str:
        """The part of the data set that is tested with."""
        return "all" if self.dataset.is_whole else "test"

    @property
    def tested(self) -> NDArray[np.intp]:
        """Which of the test images accuracy is told on."""
        return np.arange(len(self.dataset.test)) if self.unseen is None else self.unseen

    @property
    def tested_labels(self) -> NDArray[np.int64]:
        """The classes of ``tested``."""
        return self.dataset.test.labels[self.tested]

    @property
    def tested_split(self) -> str:
        """``split``, of ``tested``."""
        return "unseen" if self.unseen is not None and self.dataset.is_whole else self.split

    @property
    def source(self) -> str:
        """Data set and split, for results."""
        return f"{self.dataset.name} {self.split}"


def images_for(
    card: ModelCard,
    name: str | None = None,
    data_dir: Path | None = None,
    seen: Collection[str] = (),
) -> Images:
    """The data set the model was trained on where it is at hand, else images of the sample.

    The sample is a part of Fashion-MNIST, split as there, so a model of either is tested on the
    10,000 images where they are. A folder without splits is tested with as a whole, unless it is
    what the model was trained on, or one of ``seen``.

    A data set asked for by ``name``, or by the path of a folder of images, must be there; without
    one the sample inside the package always is.
    """
    wanted = name or ("auto" if card.dataset in NAMED_DATA or data_dir else "sample")
    known = {*seen, card.dataset or ""}
    dataset = open_dataset(wanted, data_dir, card.preprocessing, seen=known, labelled=False)
    return _matched(card, dataset, asked=name is not None)


def seen_by(bundle: Bundle) -> frozenset[str]:
    """The data sets, by name or by ``Dataset.files``, that files of a bundle were made with."""
    notes = [artifact.made_by for artifact in bundle.artifacts]
    names = (made_by.get("calibration_data", "").removesuffix(" train") for made_by in notes)
    files = (f"{m.get('dataset_files', '')} {m.get(WEIGHTS_FILES, '')}" for m in notes)
    return frozenset(filter(None, [*names, *" ".join(files).split()]))


def refuse_misnamed(images: Images, answers: NDArray[np.int64]) -> None:
    """Refuse a model whose labels name other classes than its ``answers`` on the images show.

    Only a network that is clearly right more often where the data set's order is taken for its own
    shows that: names that are known in another order are right otherwise.
    """
    order, names, named = images.own_order, images.dataset.labels, images.tested_labels
    if not order:
        return
    placed = np.array([order.index(name) for name in names])[named]
    right, other = (int((answers == labels).sum()) for labels in (named, placed))
    total = len(answers)
    if wilson(other, total)[0] <= wilson(right, total)[1]:
        return
    index = next(i for i, name in enumerate(names) if name != order[i])
    raise RefusedInput(
        f"the model's labels are not in the order of its classes: class {index} is called "
        f"{names[index]!r} and is {order[index]!r} in {images.dataset.name}; with that order "
        f"{other} of {total} answers are right, with the model's {right}",
        "load the weights again with --labels in the order they were trained with, which for "
        "folders is that of their names",
    )


def _matched(card: ModelCard, dataset: Dataset, *, asked: bool) -> Images:
    """By name where the names are the same, else by position where the user asks for the images."""
    own, its = card.labels, dataset.labels
    if not its:
        return Images(dataset, f"{dataset.name} has no folders of classes, so no labels")
    if own == its:
        return Images(dataset, "")
    if sorted(own) == sorted(its):
        return _by_name(card, dataset)
    if not asked or card.dataset is not None or len(own) != len(its):
        return Images(dataset, f"{dataset.name} has other classes than this model")
    pairs = list(enumerate(zip(own, its, strict=True)))
    for index, (here, there) in pairs:
        if here != there and there in own:
            return Images(
                dataset,
                f"{dataset.name} has other classes than this model, and class {index}, {there!r}, "
                f"is class {own.index(there)} of the model",
            )
    index, (here, there) = next(pair for pair in pairs if pair[1][0] != pair[1][1])
    remark = (
        f"classes are matched by position: class {index} is {here!r} in the network and {there!r} "
        f"in {dataset.name}"
    )
    return Images(dataset, "", remark)


def _by_name(card: ModelCard, dataset: Dataset) -> Images:
    """The data set with its labels in the model's order."""
    order = np.array([card.labels.index(label) for label in dataset.labels], np.int64)
    test = replace(dataset.test, labels=order[dataset.test.labels])
    remark = f"classes are matched by name: {dataset.name} has them in another order"
    return Images(replace(dataset, test=test, labels=card.labels), "", remark, dataset.labels)
