"""Which images of a folder a bundle's accuracy may be told on: those it has not seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from vgg_deploy.bundle import Bundle
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.pipeline.images import WEIGHTS_FILES, Images, seen_by
from vgg_deploy.pipeline.images_file import IMAGES_FILE, KEY, SEEN, VALIDATION, record_of
from vgg_deploy.replacing import TRAINING

WEIGHTS_DATASET = "weights_dataset"  # in made_by: its name


def without_seen(images: Images, bundle: Bundle) -> Images:
    """The same images, of which accuracy leaves out those that the bundle's record has as seen.

    Where every one of them is, there is no accuracy. A bundle without a record knows its folder
    only as a whole: what may be wrong then is said.
    """
    test = images.dataset.test
    if images.no_accuracy or not test.origins:
        return images
    record = record_of(bundle)
    if record is None:
        return replace(images, doubts=tuple(_doubts(images.dataset, bundle)))
    parts = {row.sha256: row.part for row in record if row.part in SEEN}
    seen = np.array([origin.sha256 in parts for origin in test.origins])
    count, name = int(seen.sum()), images.dataset.name
    if not count:
        return images
    chose = VALIDATION in {parts.get(origin.sha256) for origin in test.origins}
    how = "trained on or held out to choose the epoch with" if chose else "trained on"
    if count == len(test):
        return replace(images, no_accuracy=f"all {count:,} images of {name} were {how}")
    what = "images" if images.dataset.is_whole else "test images"
    told = f"{count:,} of {len(test):,} {what} were {how}: left out of the accuracy"
    return replace(images, unseen=test.where(~seen), doubts=(told,))


def seen_before(source: Bundle) -> dict[str, str]:
    """For ``made_by`` of a fine-tuned network: the folders that its weights were trained on.

    Those of which no record says more.
    """
    made_by = source.checkpoint.made_by
    files, name = made_by.get(WEIGHTS_FILES, ""), made_by.get(WEIGHTS_DATASET, "")
    if record_of(source) is None and "dataset_files" in made_by:
        files, name = f"{files} {made_by['dataset_files']}".strip(), made_by.get("dataset", "")
    return {WEIGHTS_FILES: files, WEIGHTS_DATASET: name} if files else {}


def _doubts(dataset: Dataset, bundle: Bundle) -> Iterator[str]:
    made_by = bundle.checkpoint.made_by
    if KEY in made_by:
        yield (
            f"{TRAINING}/{IMAGES_FILE} is gone or was changed: some of the images tested may have "
            "been trained on"
        )
        return
    names = (made_by.get("dataset"), made_by.get(WEIGHTS_DATASET))
    known = "dataset_files" in made_by or WEIGHTS_FILES in made_by
    if known and dataset.name in names and dataset.files not in seen_by(bundle):
        yield (
            f"images were added to {dataset.name} or removed since: some of those tested may have "
            "been trained on"
        )
