"""Which files of a folder are images of which class, and which are kept for testing."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from vgg_deploy.errors import RefusedInput, from_os_error, os_errors
from vgg_deploy.files import shown

SUFFIXES = (
    ".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"
)  # fmt: skip
_TRAINS = ("train", "training")
_TESTS = ("test", "testing", "eval")
_VALIDATIONS = ("val", "valid", "validation")  # for testing where there is no other one
_KEPT_FOR_TEST = 5  # one of so many


@dataclass(frozen=True, kw_only=True)
class ImageFile:
    """An image and its class."""

    path: Path
    label: int


@dataclass(frozen=True, kw_only=True)
class Tree:
    """What was found: class names, the images of each split, other files by their ending."""

    labels: tuple[str, ...]
    train: list[ImageFile]
    test: list[ImageFile]
    validation: list[ImageFile]  # empty without a folder of its own
    others: Mapping[str, int]
    unlabelled: Path | None = None  # a folder called test that has not the classes
    kept: bool = False  # whether the test images were kept from those of training

    @property
    def every(self) -> list[ImageFile]:
        """The images of all splits, each once."""
        if self.test is self.train:
            return self.train
        return [*self.train, *self.test, *self.validation]

    def all_for_testing(self) -> Tree:
        """The same images with none for training."""
        return replace(self, train=[], test=self.every, validation=[], kept=False)


class _NoClasses(RefusedInput):
    """Fewer than two folders with images."""


def digest_of(path: Path) -> bytes:
    """SHA-256 of a name, whatever its bytes."""
    return hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape")).digest()


def find_images(root: Path) -> Tree:
    """The images below ``root``; ``RefusedInput`` for a folder that is no data set."""
    if not root.is_dir():
        raise RefusedInput(f"data set {shown(root)} is not a folder", "give one with one per class")
    others: Counter[str] = Counter()
    with os_errors(f"read {shown(root)}"):
        folders = {p.name: p for p in sorted(root.iterdir(), reverse=True) if p.is_dir()}
        train, *rest = (_split(folders, names) for names in (_TRAINS, _TESTS, _VALIDATIONS))
        own = [folder for folder in rest if folder]
        if train and own:
            return _with_splits(train, own, others)
        classes = _classes(root, others)
    _refuse_splits(root, classes)
    every = _labelled(classes)
    tests = _kept_for_test(root, every)
    return Tree(
        labels=tuple(classes),
        train=[f for f in every if f not in tests],
        test=[f for f in every if f in tests],
        validation=[],
        others=others,
        kept=True,
    )


def find_any_images(root: Path) -> Tree:
    """As ``find_images``; images that are not in two folders or more are of no class.

    Those have no labels and are not split: they serve for training and for testing.
    """
    try:
        return find_images(root)
    except _NoClasses:
        with os_errors(f"read {shown(root)}"):
            folders = {p.name: p for p in sorted(root.iterdir(), reverse=True) if p.is_dir()}
            base = _split(folders, _TRAINS) or root
        found = images_below(base)
        if not found:
            raise
    images = [ImageFile(path=path, label=0) for path in found]
    return Tree(labels=(), train=images, test=images, validation=[], others={})


def images_below(folder: Path) -> list[Path]:
    """All files below a folder with an image's ending, in the order of their names."""
    with os_errors(f"read {shown(folder)}"):
        return [path for path in _below(folder) if path.suffix.lower() in SUFFIXES]


def _with_splits(train: Path, own: Sequence[Path], others: Counter[str]) -> Tree:
    """A tree with a folder per split: one to test with, and perhaps one to choose with."""
    classes = _classes(train, others)
    unlabelled = None
    if len(own) > 1 and not _has(own[0], classes):
        unlabelled, own = own[0], own[1:]  # as competitions hand out theirs
    found = []
    for folder in own:
        found.append(_classes(folder, others))
        if odd := sorted(set(classes) ^ set(found[-1])):
            raise RefusedInput(
                f"{shown(folder)} has other classes than {shown(train)}: {', '.join(odd[:5])}",
                "give both the same folders",
            )
    test, validation = found[0], found[1] if len(found) > 1 else {}
    return Tree(
        labels=tuple(classes),
        train=_labelled(classes),
        test=_labelled(test),
        validation=_labelled(validation),
        others=others,
        unlabelled=unlabelled,
    )


def _has(folder: Path, classes: Mapping[str, list[Path]]) -> bool:
    try:
        return list(_classes(folder, Counter())) == list(classes)
    except RefusedInput:
        return False


def _split(folders: Mapping[str, Path], names: Sequence[str]) -> Path | None:
    """The folder of a split, by the first of the names that there is; ``Train`` is one, too."""
    lower = {name.lower(): path for name, path in folders.items()} | dict(folders)
    return next((lower[name] for name in names if name in lower), None)


def _classes(folder: Path, others: Counter[str]) -> dict[str, list[Path]]:
    """Images by class, classes in the order of their names."""
    found: dict[str, list[Path]] = {}
    for path in sorted(p for p in folder.iterdir() if _seen(p.name) and p.is_dir()):
        files = _below(path)
        if not files:
            continue
        found[path.name] = [p for p in files if p.suffix.lower() in SUFFIXES]
        rest = Counter(shown(p.suffix.lower()) or "without an ending" for p in files)
        for suffix in SUFFIXES:
            del rest[suffix]
        others.update(rest)
        _require_class(path, found[path.name], rest)
    if len(found) < 2:
        what = f"only one class, {next(iter(found))}" if found else "no class folders with images"
        raise _NoClasses(
            f"{shown(folder)} has {what}", "put the images of each class into a folder of its own"
        )
    return found


def _require_class(path: Path, images: Sequence[Path], rest: Mapping[str, int]) -> None:
    if shown(path.name) != path.name:
        raise RefusedInput(
            f"the name of the class folder {shown(path)} is not UTF-8", "give it another name"
        )
    if not images:
        raise RefusedInput(
            f"{path} holds no image that can be read, only {listed(rest)}",
            f"convert them to JPEG or PNG, or move the folder away; read are {' '.join(SUFFIXES)}",
        )


def listed(endings: Mapping[str, int]) -> str:
    """Numbers of files by their ending: ``20 .heic, 1 .txt``."""
    ordered = sorted(endings.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {ending}" for ending, count in ordered[:5])


def _seen(name: str) -> bool:
    """Whether a file or folder is not hidden, as the small copies are that photo programs keep."""
    return not name.startswith(".")


def _below(folder: Path) -> list[Path]:
    """All files below a folder that are not hidden; each folder once, linked ones after real ones.

    A link to a folder that this one lies in leads nowhere new and is not followed.
    """
    found: list[Path] = []
    seen = {_identity(parent) for parent in folder.resolve().parents}
    starts = [folder]
    while starts:
        for place, folders, files in os.walk(starts.pop(0), onerror=_refuse):
            if (identity := _identity(Path(place))) in seen:
                folders.clear()
                continue
            seen.add(identity)
            folders[:] = filter(_seen, folders)
            found += [Path(place, name) for name in filter(_seen, files)]
            starts += [p for name in sorted(folders) if (p := Path(place, name)).is_symlink()]
    return sorted(found)


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def _refuse(error: OSError) -> NoReturn:
    raise from_os_error(error, f"read {shown(os.fsdecode(error.filename))}") from error


def _refuse_splits(root: Path, classes: Mapping[str, list[Path]]) -> None:
    """Refuse folders that are splits by other names: no images of their own, the same folders."""
    inside = []
    for name, files in classes.items():
        parts = [path.relative_to(root / name).parts for path in files]
        if any(len(part) == 1 for part in parts):
            return
        inside.append({part[0] for part in parts})
    if len(inside[0]) > 1 and all(names == inside[0] for names in inside):
        raise RefusedInput(
            f"{', '.join(list(classes)[:5])} in {shown(root)} all hold the same folders: "
            f"{', '.join(map(shown, sorted(inside[0])[:5]))}; they look like splits, not classes",
            "name the splits train and val, or give a folder with one folder per class",
        )


def _labelled(classes: Mapping[str, list[Path]]) -> list[ImageFile]:
    return [
        ImageFile(path=path, label=index)
        for index, files in enumerate(classes.values())
        for path in files
    ]


def _kept_for_test(root: Path, files: Sequence[ImageFile]) -> set[ImageFile]:
    """Of each class every fifth in the order of a digest of its name, at least one."""
    classes: dict[int, list[ImageFile]] = {}
    for file in sorted(files, key=lambda f: digest_of(f.path.relative_to(root))):
        classes.setdefault(file.label, []).append(file)
    return {f for own in classes.values() for f in own[: max(1, len(own) // _KEPT_FOR_TEST)]}
