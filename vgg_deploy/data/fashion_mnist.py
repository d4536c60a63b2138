"""Fashion-MNIST: found on this machine, downloaded, or the sample inside the package.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine
Learning Algorithms" (2017). 60,000 training and 10,000 test images, 28×28, grey, 10 classes.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from http.client import HTTPException
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from vgg_deploy.data.dataset import Dataset, Split
from vgg_deploy.data.idx import parse_idx, read_content
from vgg_deploy.data.published import LABELS, OFFICIAL, SAMPLE, Files, IdxFile
from vgg_deploy.errors import (
    BackendNotAvailable,
    DigestMismatch,
    RefusedInput,
    ResourceLimit,
    UsageError,
    VggDeployError,
    first_line,
    from_os_error,
    os_errors,
    unknown_choice,
)
from vgg_deploy.files import commit, staged, user_cache
from vgg_deploy.libraries import import_torchvision

DatasetName = Literal["auto", "fashion-mnist", "sample"]
DATASETS: tuple[DatasetName, ...] = get_args(DatasetName)
DATA_VARIABLE = "VGG_DEPLOY_DATA"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist
TORCHVISION_LAYOUT = Path("FashionMNIST", "raw")


def load_dataset(name: str, data_dir: Path | None = None) -> Dataset:
    """Fashion-MNIST or its sample, with every file's digest checked.

    ``"fashion-mnist"`` is looked for in ``data_dir``, ``$VGG_DEPLOY_DATA``, Debian's folder and
    the user cache, then downloaded into that cache through torchvision. ``"sample"`` is in the
    package. ``"auto"`` is the full data if it is on this machine, else the sample.

    A folder that was asked for by name or variable must hold the files: nothing else is tried.
    Raises ``RefusedInput`` when the files are not to be had, ``DigestMismatch`` when one was
    changed.
    """
    if name not in DATASETS:
        raise unknown_choice("data set", name, DATASETS)
    if name == "sample":
        if data_dir is not None:
            raise UsageError(
                "the sample is inside the package and is not read from a folder",
                "leave out --data-dir, or name fashion-mnist as the data set",
            )
        return _load_sample()
    folder = find_fashion_mnist(data_dir)
    if folder is None and name == "auto":
        return _load_sample()
    if folder is None:
        folder = _download(cache_folder())
    return _load("fashion-mnist", str(folder), folder, OFFICIAL)


def found_as(name: str, data_dir: Path | None = None) -> str:
    """The data set that ``load_dataset`` gives for ``name``: "auto" depends on the machine."""
    if name != "auto":
        return name
    return "sample" if find_fashion_mnist(data_dir) is None else "fashion-mnist"


def find_fashion_mnist(data_dir: Path | None = None) -> Path | None:
    """The folder on this machine that holds all four files, or None."""
    variable = os.environ.get(DATA_VARIABLE)
    for folder, how in (
        (data_dir, "--data-dir"),
        (Path(variable) if variable else None, f"${DATA_VARIABLE}"),
    ):
        if folder is not None:
            return _require(folder, how)
    if found := _complete(DEBIAN_FOLDER):
        return found
    try:
        return _complete(cache_folder())
    except RefusedInput:  # no home, so no cache
        return None


def cache_folder() -> Path:
    """Where a download goes: into the user's cache."""
    return user_cache("fashion-mnist")


def _require(folder: Path, how: str) -> Path:
    if not folder.is_dir():
        raise RefusedInput(f"{how} {folder} is not a folder", _FOUR_FILES)
    found = _complete(folder)
    if found is None:
        absent = [n for n in _names() if _file(folder, n) is None]
        raise RefusedInput(f"{how} {folder} lacks {', '.join(absent)}", _FOUR_FILES)
    return found


def _names() -> list[str]:
    return [file.name for split in OFFICIAL.values() for file in (split.images, split.labels)]


_FOUR_FILES = (
    "give a folder with the four files "
    + ", ".join(f"{name}[.gz]" for name in _names())
    + ", or name sample as the data set"
)


def _complete(folder: Path) -> Path | None:
    """``folder``, or torchvision's subfolder of it, if all four files are there."""
    for place in (folder, folder / TORCHVISION_LAYOUT):
        if all(_file(place, name) for name in _names()):
            return place
    return None


def _file(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def _load_sample() -> Dataset:
    with resources.as_file(resources.files("vgg_deploy.data") / "sample") as folder:
        return _load("sample", "the sample inside vgg-deploy", folder, SAMPLE)


def _load(name: str, source: str, folder: Path, files: Files) -> Dataset:
    splits = {
        key: Split(
            _read(folder, split.images)[..., np.newaxis],
            _read(folder, split.labels).astype(np.int64),
        )
        for key, split in files.items()
    }
    return Dataset(name, source, splits["train"], splits["test"], LABELS)


def _read(folder: Path, file: IdxFile) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    path = _file(folder, file.name) or folder / file.name
    content = read_content(path, file.size_bytes)
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise DigestMismatch(
            f"{path} is not the published file: its content has another SHA-256",
            "remove it and get it again, or use --data sample",
        )
    return parse_idx(content, str(path))


def _download(folder: Path) -> Path:
    """Let torchvision fetch the four files; they enter ``folder`` only when all are right."""
    with staged(folder) as partial:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fetch = _torchvisions()
            try:
                fetch(str(partial), download=True)
            except (OSError, RuntimeError, HTTPException) as error:
                raise _not_fetched(folder, error) from error
        raw = partial / TORCHVISION_LAYOUT
        _load("fashion-mnist", str(raw), raw, OFFICIAL)
        with os_errors(f"write {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
        for name in _names():
            commit(raw / f"{name}.gz", folder / f"{name}.gz")
    return folder


def _torchvisions() -> Any:
    """torchvision's ``FashionMNIST``, which downloads."""
    try:
        return import_torchvision("torchvision.datasets").FashionMNIST
    except BackendNotAvailable as error:
        raise BackendNotAvailable(
            f"Fashion-MNIST is not on this machine; to download it {error.cause}",
            f"{error.remedy}; or {_OTHER_WAYS}",
        ) from error


def _not_fetched(folder: Path, error: Exception) -> VggDeployError:
    if isinstance(error, OSError):
        known = from_os_error(error, f"write {folder}")
        if isinstance(known, ResourceLimit):
            return known
    return RefusedInput(
        f"Fashion-MNIST is not on this machine and its download failed: {first_line(error)}",
        f"try again with a network connection; or {_OTHER_WAYS}",
    )


_OTHER_WAYS = (
    "install the Debian or Ubuntu package dataset-fashion-mnist; or put the four .gz files into a "
    f"folder and give it with --data-dir or ${DATA_VARIABLE}. --data sample needs none of these"
)
