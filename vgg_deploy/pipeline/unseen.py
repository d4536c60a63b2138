"""Which images of a folder a bundle's accuracy may be told on: those it has not seen."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from vgg_deploy.bundle import Bundle
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.pipeline.images import WEIGHTS_FILES, Images, seen_by
from vgg_deploy.pipeline.images_file import (
    IMAGES_FILE,
    KEY,
    SEEN,
    VALIDATION,
    ImageRow,
    record_of,
)
from vgg_deploy.replacing import TRAINING

WEIGHTS_DATASET = "weights_dataset"  # in made_by: its name


def without_seen(images: Images, bundle: Bundle) -> Images:
    """The same images, of which accuracy leaves out those that the bundle's record has as seen.

    Where every one of them is, there is no accuracy. Folders that are not on record are known only
    as a whole: what may be wrong then is said.
    """
    test = images.dataset.test
    if images.no_accuracy or not test.origins:
        return images
    record = record_of(bundle)
    if record is None:
        return replace(images, doubts=tuple(_without_record(images.dataset, bundle)))
    doubts = tuple(_changed(images.dataset, bundle, _off_record(images.dataset, bundle, record)))
    parts = {row.sha256: row.part for row in record if row.part in SEEN}
    seen = np.array([origin.sha256 in parts for origin in test.origins])
    count, name = int(seen.sum()), images.dataset.name
    if not count:
        return replace(images, doubts=doubts)
    chose = VALIDATION in {parts.get(origin.sha256) for origin in test.origins}
    how = "trained on or held out to choose the epoch with" if chose else "trained on"
    if count == len(test):
        return replace(images, no_accuracy=f"all {count:,} images of {name} were {how}")
    what = "images" if images.dataset.is_whole else "test images"
    told = f"{count:,} of {len(test):,} {what} were {how}: left out of the accuracy"
    return replace(images, unseen=np.flatnonzero(~seen), doubts=(told, *doubts))


def seen_before(source: Bundle | None) -> dict[str, str]:
    """For ``made_by`` of a fine-tuned network: the folders that its weights were trained on.

    Those of which no record says more.
    """
    if source is None:
        return {}
    made_by = source.checkpoint.made_by
    files, name = made_by.get(WEIGHTS_FILES, ""), made_by.get(WEIGHTS_DATASET, "")
    if record_of(source) is None and "dataset_files" in made_by:
        files, name = f"{files} {made_by['dataset_files']}".strip(), made_by.get("dataset", "")
    return {WEIGHTS_FILES: files, WEIGHTS_DATASET: name} if files else {}


def _without_record(dataset: Dataset, bundle: Bundle) -> Iterator[str]:
    made_by = bundle.checkpoint.made_by
    if KEY not in made_by:
        names = (made_by.get("dataset", ""), made_by.get(WEIGHTS_DATASET, ""))
        yield from _changed(dataset, bundle, names)
    elif "fine_tuned_from" in made_by or dataset.files != made_by.get("dataset_files"):
        yield (
            f"{TRAINING}/{IMAGES_FILE} is gone, cannot be read or was changed: some of the images "
            "tested may have been trained on"
        )


def _off_record(dataset: Dataset, bundle: Bundle, record: Sequence[ImageRow]) -> tuple[str, ...]:
    """The data sets that were trained on and of which the record does not say what is tested.

    It has nothing of what older weights saw; and where it knows none of the images, they may be
    the same in other files.
    """
    made_by = bundle.checkpoint.made_by
    known = {row.sha256 for row in record}
    own = not any(origin.sha256 in known for origin in dataset.test.origins)
    return (made_by.get(WEIGHTS_DATASET, ""), made_by.get("dataset", "") if own else "")


def _changed(dataset: Dataset, bundle: Bundle, names: Collection[str]) -> Iterator[str]:
    """A doubt where the data set has one of the names, and is none that files were made with."""
    made_by = bundle.checkpoint.made_by
    known = "dataset_files" in made_by or WEIGHTS_FILES in made_by
    if known and dataset.name in names and dataset.files not in seen_by(bundle):
        yield (
            f"images were added to {dataset.name} or removed since: some of those tested may have "
            "been trained on"
        )
