"""Which files of a folder are images of which class, and which are kept for testing."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vgg_deploy.data.classes import (
    Aside,
    NoClasses,
    classes_in,
    data_set_in,
    folders_in,
    has_images,
    images_below,
    require_folder,
)
from vgg_deploy.data.ours import is_ours
from vgg_deploy.errors import RefusedInput, and_more, os_errors
from vgg_deploy.files import shown

_TRAINS = ("train", "training")
_TESTS = ("test", "testing", "eval")
_VALIDATIONS = ("val", "valid", "validation")  # for testing where there is no other one
_SPLIT_LIKE = re.compile(r"train|dev|val|test|eval|hold[ _-]?out|fold|split", re.IGNORECASE)
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
    base: Path  # the folder of the classes, or of the splits
    remarks: Sequence[str] = ()  # for people: how the folders were taken
    kept: bool = False  # whether the test images were kept from those of training
    kept_remark: str = ""  # for people, where that is not expected

    @property
    def every(self) -> list[ImageFile]:
        """The images of all splits, each once."""
        if self.test is self.train:
            return self.train
        return [*self.train, *self.test, *self.validation]

    def all_for_testing(self) -> Tree:
        """The same images with none for training."""
        every = self.every
        return replace(self, train=[], test=every, validation=[], kept=False, kept_remark="")


def digest_of(path: Path) -> bytes:
    """SHA-256 of a name, whatever its bytes."""
    return hashlib.sha256(path.as_posix().encode("utf-8", "surrogateescape")).digest()


def find_images(root: Path, *, strict: bool = True) -> Tree:
    """The images below ``root``; ``RefusedInput`` for a folder that is no data set.

    Class folders that are empty are refused, too, or only told where not ``strict``.
    """
    require_folder(root)
    aside = Aside(strict=strict)
    with os_errors(f"read {shown(root)}"):
        if splits := _split_folders(root):
            return _with_splits(root, splits[0], splits[1:], aside)
        try:
            classes = classes_in(root, aside)
        except NoClasses as error:
            if within := data_set_in(root):
                raise NoClasses(error.cause, _instead(within)) from error
            raise
    _refuse_splits(root, classes, aside)
    return _shared(root, classes, aside)


def _instead(folder: Path) -> str:
    names = and_more([shown(path.name) for path in folders_in(folder)])
    place = shlex.quote(shown(folder))
    return f"give --data {place} if its folders, {names}, are the classes or splits"


def holds_classes(root: Path, place: Path) -> bool:
    """Whether ``place`` is, or lies in, a folder that holds the classes of the data set ``root``.

    Those are its splits, the names that splits have among them, or itself. Links are followed.
    """
    ways = (place, *place.parents)
    with os_errors(f"read {shown(root)}"):
        beside = [p for p in ways if p.parent.exists() and p.parent.samefile(root)]
        if any(p.name.lower() in (*_TRAINS, *_TESTS, *_VALIDATIONS) for p in beside):
            return True
        holders = _split_folders(root) or [root]
        return any(p.samefile(holder) for p in ways if p.exists() for holder in holders)


def _split_folders(root: Path) -> list[Path]:
    """The folder to train with, then those of the other splits; none where there are classes."""
    folders = _folders(root)
    train, *rest = (_split(folders, names) for names in (_TRAINS, _TESTS, _VALIDATIONS))
    own = [folder for folder in rest if folder]
    if train and (own or _stands_alone(train, folders.values())):
        return [train, *own]
    return []


def _shared(root: Path, classes: Mapping[str, list[Path]], aside: Aside) -> Tree:
    """A tree without a folder to test with: a part of each class is kept for that."""
    every = _labelled(classes)
    tests = _kept_for_test(root, every)
    return Tree(
        labels=tuple(classes),
        train=[f for f in every if f not in tests],
        test=[f for f in every if f in tests],
        validation=[],
        others=aside.others,
        base=root,
        remarks=aside.remarks,
        kept=True,
    )


def refuse_single(tree: Tree) -> None:
    """Refuse classes of one image where a part of each is kept for testing."""
    counts = Counter(file.label for file in tree.every)
    single = [name for index, name in enumerate(tree.labels) if counts[index] < 2]
    if tree.kept and single:
        raise RefusedInput(
            f"in {shown(tree.base)} {and_more(single)} "
            f"{'have one image each' if single[1:] else 'has one image'}; a class needs two, "
            "because a fifth is kept for testing",
            "add images, move these classes away, or give the data set a test folder of its own",
        )


def find_any_images(root: Path) -> Tree:
    """As ``find_images``; images that are not in two folders or more are of no class.

    Those have no labels and are not split: they serve for training and for testing. Class folders
    that are empty are only told: earlier versions trained beside them.
    """
    try:
        return find_images(root, strict=False)
    except NoClasses:
        with os_errors(f"read {shown(root)}"):
            base = _split(_folders(root), _TRAINS) or root
            found, others = images_below(base)
        if not found:
            raise
    images = [ImageFile(path=path, label=0) for path in found]
    return Tree(labels=(), train=images, test=images, validation=[], others=others, base=base)


def _with_splits(root: Path, train: Path, own: Sequence[Path], aside: Aside) -> Tree:
    """A tree with a folder per split: one to test with, and perhaps one to choose with."""
    classes = classes_in(train, aside)
    used = _used(own, classes, aside)
    if not used:
        what = "" if own else f"beside {shown(train)} there is neither test nor val: "
        remark = f"{what}a fifth of {train.name} is kept for testing"
        return replace(_shared(train, classes, aside), kept_remark=remark)
    found = []
    for folder in used:
        try:
            found.append(classes_in(folder, aside))
        except NoClasses as error:  # of this split alone: the data set has some
            raise RefusedInput(error.cause, error.remedy) from error
        if odd := sorted(set(classes) ^ set(found[-1])):
            raise RefusedInput(
                f"{shown(folder)} has other classes than {shown(train)}: {and_more(odd, 5)}",
                "give both the same folders",
            )
    test, validation = found[0], found[1] if len(found) > 1 else {}
    return Tree(
        labels=tuple(classes),
        train=_labelled(classes),
        test=_labelled(test),
        validation=_labelled(validation),
        others=aside.others,
        base=root,
        remarks=aside.remarks,
    )


def _used(own: Sequence[Path], classes: Collection[str], aside: Aside) -> Sequence[Path]:
    """The splits that have classes; competitions hand out theirs without any."""
    used = [folder for folder in own if _has_classes(folder, classes)]
    if len(used) > 1 and not _has_all(used[0], classes, strict=aside.strict):
        used.pop(0)
    for folder in own:
        if folder not in used:
            tested = used and folder == own[0]
            what = "the validation images are tested with" if tested else "left out"
            aside.remarks.append(f"{shown(folder)} has not the classes of train: {what}")
    return used


def _stands_alone(train: Path, folders: Collection[Path]) -> bool:
    """Whether a folder called train is a split, and not a class among others."""
    others = (folder for folder in folders if folder != train)
    return bool(folders_in(train)) and not any(map(has_images, others))


def _has_classes(folder: Path, classes: Collection[str]) -> bool:
    """Whether a split has class folders, be they those of train or others."""
    names = {path.name for path in folders_in(folder)}
    return len(names) > 1 or bool(names & set(classes))


def _has_all(folder: Path, classes: Collection[str], *, strict: bool) -> bool:
    try:
        return list(classes_in(folder, Aside(strict=strict))) == list(classes)
    except RefusedInput:
        return False


def _folders(root: Path) -> dict[str, Path]:
    """The folders in the data set by their names, those that differ in case in one order."""
    return {p.name: p for p in reversed(folders_in(root)) if not is_ours(p)}


def _split(folders: Mapping[str, Path], names: Sequence[str]) -> Path | None:
    """The folder of a split, by the first of the names that there is; ``Train`` is one, too."""
    lower = {name.lower(): path for name, path in folders.items()} | dict(folders)
    return next((lower[name] for name in names if name in lower), None)


def _refuse_splits(root: Path, classes: Mapping[str, list[Path]], aside: Aside) -> None:
    """Refuse folders that are splits by other names: no images of their own, the same folders.

    Where no name is that of a split, as of pictures in a folder per year, it is only said.
    """
    inside = []
    for name, files in classes.items():
        parts = [path.relative_to(root / name).parts for path in files]
        if any(len(part) == 1 for part in parts):
            return
        inside.append({part[0] for part in parts})
    if len(inside[0]) < 2 or any(names != inside[0] for names in inside):
        return
    same = f"all hold the same folders: {and_more(sorted(map(shown, inside[0])))}"
    if any(map(_SPLIT_LIKE.match, classes)):
        raise RefusedInput(
            f"{and_more(list(classes))} in {shown(root)} {same}; they look like splits, not "
            "classes",
            "name the splits train and val, or give a folder with one folder per class",
        )
    aside.remarks.append(f"{and_more(list(classes))} {same}; they are taken for classes")


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
