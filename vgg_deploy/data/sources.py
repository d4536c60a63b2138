"""Every data set by what a user calls it: a name, or the path of a folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.fashion_mnist import DATASETS, load_dataset
from vgg_deploy.data.image_folder import load_image_folder
from vgg_deploy.data.squares import Geometry
from vgg_deploy.errors import UsageError
from vgg_deploy.spec import Preprocessing


def is_folder(name: str) -> bool:
    """Whether ``--data`` names a folder of images; a known name is one only with a slash."""
    return name not in DATASETS and (Path(name).exists() or "/" in name or "\\" in name)


def open_dataset(
    name: str,
    data_dir: Path | None,
    preprocessing: Preprocessing,
    *,
    seen: Collection[str] | None = None,
    labelled: bool = True,
) -> Dataset:
    """A data set; images of a folder are made as large as ``preprocessing`` wants them.

    ``seen`` and ``labelled`` are for a folder, as ``load_image_folder`` has them.

    Raises what ``load_dataset`` and ``load_image_folder`` raise.
    """
    if not is_folder(name):
        return load_dataset(name, data_dir)
    if data_dir is not None:
        raise UsageError(
            "--data-dir is for Fashion-MNIST, --data already names a folder", "leave it out"
        )
    geometry = geometry_of(preprocessing)
    return load_image_folder(Path(name), geometry, seen=seen, labelled=labelled)


def geometry_of(p: Preprocessing) -> Geometry:
    """The squares that a preprocessing cuts its input from."""
    side, cropped = p.resize or p.size, p.resize is not None
    return Geometry(side=side, channels=p.channels, cropped=cropped, crop=p.size)
